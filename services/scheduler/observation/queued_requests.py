"""Which requests wait, counted in memory from this leader's own transactions. Pure.

A count over the rows costs more the more requests wait, and each submission needs one. What
gateways end by themselves is left out when they say so, at the latest by the next sweep.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field

from services.scheduler.policy.decisions import AssignRequest, Decision, EndRequest
from services.scheduler.policy.snapshot import Snapshot


@dataclass(frozen=True)
class NumQueued:
    """Requests that wait, in all gateways together."""

    of_model: int
    of_tenant: int
    of_all: int


@dataclass(frozen=True)
class Queue:
    """Whose requests wait for the same model: the model's, and its tenant's."""

    model_id: str
    tenant: str


@dataclass
class QueuedRequests:
    """Unknown until the rows were read once, and again after a transaction whose commit is in
    doubt."""

    is_known: bool = False
    _queue_of: dict[str, Queue] = field(default_factory=dict)  # by request
    _of_models: dict[str, dict[str, Queue]] = field(default_factory=dict)  # by model and request
    _of_tenants: Counter[str] = field(default_factory=Counter)
    # Since a sweep began to read: requests that came or went, and their models.
    _moved: dict[str, str] | None = None  # None: no sweep reads

    def __contains__(self, request_id: object) -> bool:
        return request_id in self._queue_of

    def find(self, request_id: str) -> Queue | None:
        return self._queue_of.get(request_id)

    def num_queued(self, queue: Queue) -> NumQueued:
        of_model = len(self._of_models.get(queue.model_id, ()))
        return NumQueued(of_model, self._of_tenants[queue.tenant], len(self._queue_of))

    def load(self, queues: Mapping[str, Queue]) -> None:
        """As the rows have it, by request. What a sweep has read meanwhile may be older."""
        self.forget()
        self.is_known = True
        for request_id, queue in queues.items():
            self._add(request_id, queue)

    def forget(self) -> None:
        self.is_known, self._moved = False, None
        self._queue_of, self._of_models, self._of_tenants = {}, {}, Counter()

    def enter(self, request_id: str, queue: Queue) -> None:
        """It waits, and the transaction has committed."""
        self._note_moved(request_id, queue)
        if self.is_known:
            self._add(request_id, queue)

    def leave(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            self._note_moved(request_id, self._queue_of.get(request_id))
            self._remove(request_id)

    def follow(self, decisions: Iterable[Decision]) -> None:
        """Of a round that has committed."""
        self.leave(x.request_id for x in decisions if isinstance(x, AssignRequest | EndRequest))

    # ---------------------------------------------------------------- sweeps

    def begin_sweep(self) -> None:
        """From now on a round reads the rows of all requests."""
        self._moved = {}

    def end_sweep(self, snapshot: Snapshot) -> None:
        """What the round found is right, but for requests that moved since it began. Only models
        of which another number waits, or of which one moved, are looked at."""
        moved, self._moved = self._moved, None
        if moved is None:
            return
        found, of_moved = set(snapshot.requests.keys_of("queue")), set(moved.values())
        for model_id in found | self._of_models.keys():
            num_known = len(self._of_models.get(model_id, ()))
            if snapshot.requests.count("queue", model_id) != num_known or model_id in of_moved:
                self._correct(snapshot, model_id, moved.keys())
        self.is_known = True

    def _correct(self, snapshot: Snapshot, model_id: str, moved: Set[str]) -> None:
        model = snapshot.models.get(model_id)
        queue = Queue(model_id, "" if model is None else model.tenant)
        waiting = {request.id for request in snapshot.requests.by("queue", model_id)}
        known = self._of_models.get(model_id, {}).keys()
        for request_id in (known - waiting) - moved:
            self._remove(request_id)
        for request_id in (waiting - known) - moved:
            self._add(request_id, queue)

    def _note_moved(self, request_id: str, queue: Queue | None) -> None:
        if self._moved is not None:
            self._moved[request_id] = "" if queue is None else queue.model_id

    def _add(self, request_id: str, queue: Queue) -> None:
        if request_id not in self._queue_of:
            self._queue_of[request_id] = queue
            self._of_models.setdefault(queue.model_id, {})[request_id] = queue
            self._of_tenants[queue.tenant] += 1

    def _remove(self, request_id: str) -> None:
        queue = self._queue_of.pop(request_id, None)
        if queue is None:
            return
        own = self._of_models[queue.model_id]
        del own[request_id]
        if not own:
            del self._of_models[queue.model_id]
        self._of_tenants[queue.tenant] -= 1
        if not self._of_tenants[queue.tenant]:
            del self._of_tenants[queue.tenant]
