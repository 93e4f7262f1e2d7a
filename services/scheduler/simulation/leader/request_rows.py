"""Rows of requests, as rounds read them.

Those that are submitted are read at once; those that gateways have sent past the scheduler, with
the next sweep, if they have not ended by then. Who ends is read at once if somebody waits for the
model, or with the next one who does; else nothing depends on it before the next sweep.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import OpenRequest
from services.scheduler.policy.tables.table import Table
from services.scheduler.simulation.cluster.request import SimulatedRequest
from services.scheduler.simulation.leader.heard import GATEWAY


@dataclass(eq=False)
class RequestRows:
    deadline_s: float
    _changes: dict[str, OpenRequest | None] = field(default_factory=dict)  # since the last round
    _unread: dict[str, OpenRequest] = field(default_factory=dict)  # of requests that are served
    _known: set[str] = field(default_factory=set)  # ids that rounds have read, or will at once
    _ended: defaultdict[str, list[str]] = field(  # ids by model, to be read by a sweep
        default_factory=lambda: defaultdict(list)
    )

    def submit(self, request: SimulatedRequest) -> None:
        self._unread.pop(request.id, None)
        self._changes[request.id] = self._row(request, None)
        self._known.add(request.id)
        self._changes.update(dict.fromkeys(self._ended.pop(request.model_id, ())))

    def give(self, request: SimulatedRequest, endpoint_id: str) -> None:
        """By its gateway, past the scheduler."""
        self._unread[request.id] = self._row(request, endpoint_id)

    def end(self, request: SimulatedRequest, *, is_urgent: bool) -> None:
        self._unread.pop(request.id, None)
        if request.id in self._known:
            self._known.discard(request.id)
            if is_urgent:
                self._changes[request.id] = None
            else:
                self._ended[request.model_id].append(request.id)

    def read(self, before: Table[OpenRequest], *, is_sweep: bool) -> Table[OpenRequest]:
        changes, self._changes = self._changes, {}
        if is_sweep:
            changes.update(self._unread)
            self._known.update(self._unread)
            changes.update((id_, None) for ids in self._ended.values() for id_ in ids)
            self._unread = {}
            self._ended.clear()
        return before.updated(changes)

    def changed_models(self, before: Table[OpenRequest]) -> set[str]:
        """Of what the next sweep will read."""
        return {*self._models(before), *self._ended}

    def _models(self, before: Table[OpenRequest]) -> Iterator[str]:
        for id_, row in (*self._changes.items(), *self._unread.items()):
            known = before.get(id_) if row is None else row
            if known is not None:
                yield known.model_id

    def _row(self, request: SimulatedRequest, endpoint_id: str | None) -> OpenRequest:
        return OpenRequest(
            request.id,
            request.model_id,
            GATEWAY,
            request.attempt,
            num_engine_crashes=0,
            num_node_losses=0,
            endpoint_id=endpoint_id,
            arrived_at_s=request.arrived_at_s,
            deadline_at_s=request.arrived_at_s + self.deadline_s,
            num_prompt_tokens=request.num_prompt_tokens,
        )
