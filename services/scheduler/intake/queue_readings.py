"""What submissions that share a transaction read and write together: their rows, their models, and
how many wait."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.observation.queued_requests import NumQueued, Queue, QueuedRequests
from services.scheduler.policy.cluster import Model
from services.scheduler.store import models, new_requests, queue, requests
from services.scheduler.store.new_requests import NewRequest
from services.scheduler.store.requests import Request


@dataclass
class QueueReadings:
    """As of the transaction, and of what those before in it have done. `queued` learns of it by
    `committed`."""

    session: AsyncSession
    queued: QueuedRequests
    # Of those who share the transaction: what the first of them asks for is read for all.
    request_ids: Collection[str] = ()
    model_ids: Collection[str] = ()
    _requests: dict[str, Request | None] | None = None
    _are_models_read: bool = False
    _models: dict[str, Model | None] = field(default_factory=dict)
    _read: list[Model] = field(default_factory=list)
    _new: list[NewRequest] = field(default_factory=list)
    _met: set[str] = field(default_factory=set)
    _entered: dict[str, Queue] = field(default_factory=dict)  # by request
    _left: dict[str, Queue] = field(default_factory=dict)

    async def request(self, request_id: str) -> Request | None:
        """Locked. Each is asked for before anything changes it; it may be asked for again."""
        if self._requests is None:
            found = await requests.find_all_locked(self.session, self.request_ids)
            self._requests = {id_: found.get(id_) for id_ in self.request_ids}
        if request_id in self._requests:
            return self._requests.pop(request_id)
        if any(new.id == request_id for new in self._new):
            await self.write()  # whoever came before in this transaction has added it
        return await requests.find_locked(self.session, request_id)

    async def model(self, model_id: str, now_s: float) -> Model | None:
        if not self._are_models_read:
            found = await models.load(self.session, self.model_ids, now_s)
            self._models.update(found)
            self._read += found.values()
            self._are_models_read = True
        if model_id not in self._models:
            self._models[model_id] = await models.find(self.session, model_id, now_s)
        return self._models[model_id]

    def take_read(self) -> list[Model]:
        """Models of all who share the transaction, once."""
        read, self._read = self._read, []
        return read

    def add(self, request: NewRequest) -> None:
        """Its row is written with those of all others, by `write`."""
        self._new.append(request)

    async def write(self) -> frozenset[str]:
        """Ids of requests whose rows somebody else has written meanwhile: what was answered for
        them does not hold."""
        new, self._new = self._new, []
        if new:
            written = await new_requests.add_all(self.session, new)
            self._met |= {request.id for request in new if request.id not in written}
        for request_id in self._met:
            self._entered.pop(request_id, None)
        return frozenset(self._met)

    async def num_queued(self, model_id: str, tenant: str) -> NumQueued:
        if not self.queued.is_known:
            self.queued.load(await queue.load_queues(self.session))
        asked = Queue(model_id, tenant)
        known, change = self.queued.num_queued(asked), self._change()
        return NumQueued(
            known.of_model + change.of_models[model_id],
            known.of_tenant + change.of_tenants[tenant],
            known.of_all + change.of_models.total(),
        )

    def enter(self, request_id: str, model_id: str, tenant: str) -> None:
        """It waits for the model from now on, if it did not before."""
        self._left.pop(request_id, None)
        if request_id not in self.queued:
            self._entered[request_id] = Queue(model_id, tenant)

    def leave(self, request_id: str) -> None:
        self._entered.pop(request_id, None)
        known = self.queued.find(request_id)
        if known is not None:
            self._left[request_id] = known

    def committed(self) -> None:
        for request_id, waits_in in self._entered.items():
            self.queued.enter(request_id, waits_in)
        self.queued.leave(self._left)

    def _change(self) -> "_Change":
        change = _Change()
        for sign, queues in ((1, self._entered), (-1, self._left)):
            for own in queues.values():
                change.of_models[own.model_id] += sign
                change.of_tenants[own.tenant] += sign
        return change


@dataclass
class _Change:
    """Since the transaction began, by at most as many requests as share it."""

    of_models: Counter[str] = field(default_factory=Counter)
    of_tenants: Counter[str] = field(default_factory=Counter)
