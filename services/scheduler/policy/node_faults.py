"""Starts that failed by their nodes' fault, one after the other. In memory; monotonic seconds.

A model is not charged with them, and its requests wait on. But when every node with room has the
fault, start would follow start as fast as they fail: those nodes are left alone for a while.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from services.scheduler.policy import backoff

FIRST_DELAY_S = 2.0  # shorter than for a model's own failures: nodes come back by themselves
MAX_DELAY_S = 30.0
WINDOW_S = 60.0  # faults further apart are not a series


@dataclass(frozen=True)
class NodeFault:
    """The end of a start that says nothing about its model."""

    model_id: str
    endpoint_id: str
    node_ids: frozenset[str]  # the guilty one; all of its nodes when nobody can say


@dataclass(frozen=True)
class _Series:
    last: NodeFault
    num_faults: int
    node_ids: frozenset[str]
    until_s: float


@dataclass
class NodeFaults:
    _series: dict[str, _Series] = field(default_factory=dict)  # by model

    def record(self, fault: NodeFault, now_s: float) -> None:
        """Once for each endpoint, also if its round is repeated."""
        self._forget_old(now_s)
        before = self._series.get(fault.model_id)
        if before is not None and before.last == fault:
            return
        num_faults = 1 if before is None else before.num_faults + 1
        node_ids = fault.node_ids if before is None else before.node_ids | fault.node_ids
        delay_s = backoff.delay_s(num_faults, FIRST_DELAY_S, MAX_DELAY_S)
        self._series[fault.model_id] = _Series(fault, num_faults, node_ids, now_s + delay_s)

    def must_wait(self, model_id: str, node_ids: Collection[str], now_s: float) -> bool:
        """Whether a start on these nodes would come too soon; others are free."""
        series = self._series.get(model_id)
        return (
            series is not None
            and now_s < series.until_s
            and not series.node_ids.isdisjoint(node_ids)
        )

    def forgive(self, model_id: str) -> None:
        """A start of the model succeeded."""
        self._series.pop(model_id, None)

    def _forget_old(self, now_s: float) -> None:
        old = [id_ for id_, series in self._series.items() if now_s - series.until_s > WINDOW_S]
        for model_id in old:
            del self._series[model_id]
