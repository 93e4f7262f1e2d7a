"""A scheduler that speaks over a bus as the real one does, and misbehaves on demand."""

from dataclasses import dataclass, field

from libs.common.bus.bus import Bus
from libs.common.bus.messages import (
    Acknowledged,
    CancelRequest,
    ListWaiting,
    RequestAssigned,
    RequestProgressed,
    RequestRefused,
    SubmitAccepted,
    SubmitRefused,
    SubmitReply,
    SubmitRequest,
    WaitingListed,
)
from libs.common.bus.subjects import (
    REQUEST_ASSIGNED,
    REQUEST_CANCEL,
    REQUEST_PROGRESS,
    REQUEST_REFUSED,
    REQUEST_SUBMIT,
    REQUESTS_WAITING,
)
from libs.common.reasons import Reason


@dataclass
class FakeScheduler:
    """Accepts and assigns to `endpoint_ids`, one per attempt, the last one for ever."""

    bus: Bus
    endpoint_ids: list[str] = field(default_factory=lambda: ["ep-1"])
    refusal: SubmitRefused | None = None
    is_assigning: bool = True
    is_answering: bool = True  # False: each reply is lost, what was done is done
    refuses_queued: bool = False  # by a message that comes before its reply
    loses_assigned: bool = False  # the message; and its first reply came before it
    submissions: list[SubmitRequest] = field(default_factory=list)
    listed: list[ListWaiting] = field(default_factory=list)
    cancelled: list[CancelRequest] = field(default_factory=list)
    assigned: dict[tuple[str, int], RequestAssigned] = field(default_factory=dict)

    async def start(self) -> None:
        await self.bus.subscribe(REQUEST_SUBMIT, None, self._on_submit, concurrency=64)
        await self.bus.subscribe(REQUEST_CANCEL, None, self._on_cancel)
        await self.bus.subscribe(REQUESTS_WAITING, None, self._on_waiting)

    async def _on_submit(self, message: SubmitRequest) -> SubmitReply | None:
        self.submissions.append(message)
        if self.refusal is not None:
            return SubmitReply(result=self.refusal)
        key = (message.request_id, message.attempt)
        if self.is_assigning and key not in self.assigned:
            await self._assign(message)
            if self.loses_assigned:
                return SubmitReply(result=SubmitAccepted(queue_position=0))
        if not self.is_answering:
            return None
        if self.refuses_queued:
            await self._refuse(message)
            return SubmitReply(result=SubmitAccepted(queue_position=0))
        return SubmitReply(result=SubmitAccepted(queue_position=0, assigned=self.assigned.get(key)))

    async def _on_waiting(self, message: ListWaiting) -> WaitingListed | None:
        """Those that it knows and does not assign; of the others it is asked one by one."""
        self.listed.append(message)
        if self.is_assigning:
            return WaitingListed(positions={})
        known = {(x.request_id, x.attempt) for x in self.submissions} - self.assigned.keys()
        waiting = [id_ for id_, attempt in message.attempts.items() if (id_, attempt) in known]
        positions = {id_: place for place, id_ in enumerate(waiting)}
        return WaitingListed(positions=positions) if self.is_answering else None

    async def _assign(self, message: SubmitRequest) -> None:
        index = min(len(self.assigned), len(self.endpoint_ids) - 1)
        assigned = RequestAssigned(
            request_id=message.request_id,
            attempt=message.attempt,
            endpoint_id=self.endpoint_ids[index],
            epoch=1,
        )
        self.assigned[(message.request_id, message.attempt)] = assigned
        if self.loses_assigned:
            return
        await self.bus.publish(REQUEST_ASSIGNED, message.request_id, assigned)

    async def _refuse(self, message: SubmitRequest) -> None:
        refused = RequestRefused(
            request_id=message.request_id,
            attempt=message.attempt,
            code=Reason.MODEL_FAILED,
            message="its model failed",
        )
        await self.bus.publish(REQUEST_REFUSED, message.request_id, refused)

    async def tell_progress(self) -> None:
        """To everybody who has submitted."""
        for message in self.submissions:
            told = RequestProgressed(request_id=message.request_id, phase="queued")
            await self.bus.publish(REQUEST_PROGRESS, message.request_id, told)

    async def _on_cancel(self, message: CancelRequest) -> Acknowledged:
        self.cancelled.append(message)
        return Acknowledged(known=True)
