"""The bus as one service of a hollow node uses it: what passes is noted, and it can fall silent."""

import time
from typing import Literal

from benchmarks.controlplane.hollow.journal import Journal
from libs.common.bus.bus import Bus, Subscription
from libs.common.bus.handling import Handler, M, OnMalformed, encode
from libs.common.bus.message_hold import MessageHold
from libs.common.bus.messages import DesiredReply, Message, NodeDesired
from libs.common.bus.subjects import NODE_AGENT_HEARTBEAT, NODE_FETCHER_HEARTBEAT, Subject

Sender = Literal["agent", "fetcher"]
_HEARTBEATS = (NODE_AGENT_HEARTBEAT, NODE_FETCHER_HEARTBEAT)


class ObservedBus:
    """A silent one neither sends nor answers, as behind a broken network; what comes is lost."""

    def __init__(self, bus: Bus, node_id: str, service: Sender, journal: Journal) -> None:
        self.is_silent = False
        self._bus, self._journal = bus, journal
        self._node_id, self._service = node_id, service

    @property
    def is_connected(self) -> bool:
        return not self.is_silent and self._bus.is_connected

    async def publish(self, subject: Subject, token: str | None, message: Message) -> None:
        if self.is_silent:
            return
        if subject in _HEARTBEATS and self._journal.wants_heartbeat():
            sent_ns, num_bytes = time.monotonic_ns(), len(encode(message))
            self._journal.note_heartbeat(self._node_id, self._service, sent_ns, num_bytes)
        await self._bus.publish(subject, token, message)

    async def request(
        self, subject: Subject, token: str | None, message: Message, *, timeout_s: float
    ) -> Message:
        return await self._bus.request(subject, token, message, timeout_s=timeout_s)

    async def subscribe(
        self,
        subject: Subject,
        token: str | None,
        handler: Handler[M],
        *,
        concurrency: int = 1,
        on_malformed: OnMalformed | None = None,
        hold: MessageHold | None = None,
    ) -> Subscription:
        async def handle(message: M) -> Message | None:
            if self.is_silent:
                return None
            arrived_ns = time.monotonic_ns()
            reply = await handler(message)
            self._note(message, reply, arrived_ns)
            return None if self.is_silent else reply

        return await self._bus.subscribe(
            *(subject, token, handle),
            concurrency=concurrency,
            on_malformed=on_malformed,
            hold=hold,
        )

    async def close(self) -> None:
        """The connection is its node's."""

    def _note(self, message: Message, reply: Message | None, arrived_ns: int) -> None:
        if isinstance(message, NodeDesired) and isinstance(reply, DesiredReply):
            self._journal.note_desired(
                self._service,
                message,
                reply,
                arrived_ns=arrived_ns,
                answered_ns=time.monotonic_ns(),
            )
