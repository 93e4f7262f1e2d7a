"""Starts that failed by their nodes' fault, one after the other. Pure; monotonic seconds.

A model is not charged with them, and its requests wait on. But when every node with room has the
fault, start would follow start as fast as they fail: those nodes are left alone for a while.
"""

from collections.abc import Collection
from dataclasses import dataclass

from services.scheduler.policy.failures import backoff

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
class FaultSeries:
    """Of one model."""

    last: NodeFault
    num_faults: int
    node_ids: frozenset[str]
    until_s: float

    def must_wait(self, node_ids: Collection[str], now_s: float) -> bool:
        """Whether a start on these nodes would come too soon; others are free."""
        return now_s < self.until_s and not self.node_ids.isdisjoint(node_ids)

    def is_over(self, now_s: float) -> bool:
        return now_s - self.until_s > WINDOW_S


def after_fault(before: FaultSeries | None, fault: NodeFault, now_s: float) -> FaultSeries:
    """The series after one more fault; the same one when it is told again."""
    if before is not None and before.is_over(now_s):
        before = None
    if before is not None and before.last == fault:
        return before
    num_faults = 1 if before is None else before.num_faults + 1
    node_ids = fault.node_ids if before is None else before.node_ids | fault.node_ids
    delay_s = backoff.delay_s(num_faults, FIRST_DELAY_S, MAX_DELAY_S)
    return FaultSeries(fault, num_faults, node_ids, now_s + delay_s)
