"""A cold start's steps as everybody draws them: API, command line, demo. Pure.

The scheduler's record names the actor of each step: `scheduler`, `scheduler/<id>` (telling a node
of the worker or fetch of that id), `fetch/<fetch id>`, or the worker's id. All steps that belong to
the start of one worker have its stage.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

# Hidden states between two stages: a step of the one that they come to.
HOP = "hop"
# What steps are called that follow the start: a pipeline becomes one worker.
CONSOLIDATION = "consolidation."
_SCHEDULER, _FETCH = "scheduler", "fetch"


class ActorKind(StrEnum):
    SCHEDULER = "scheduler"  # queue and plan: the whole start
    DELIVERY = "delivery"  # the scheduler telling a node
    FETCHER = "fetcher"
    WORKER = "worker"


@dataclass(frozen=True)
class TimedStep:
    """What `actor` did, in seconds since the cold start began.

    `end_s` is None while it runs. Times are those of the actor's own node: of two nodes they may
    differ by their clocks' difference. A request's wait in the queue began before 0.
    """

    actor: str
    name: str
    node_id: str | None
    stage_index: int | None
    start_s: float
    end_s: float | None
    detail: str = ""

    @property
    def kind(self) -> ActorKind:
        head, slash, _ = self.actor.partition("/")
        if head == _SCHEDULER:
            return ActorKind.DELIVERY if slash else ActorKind.SCHEDULER
        return ActorKind.FETCHER if head == _FETCH and slash else ActorKind.WORKER

    @property
    def took_s(self) -> float | None:
        return None if self.end_s is None else self.end_s - self.start_s

    @property
    def is_milestone(self) -> bool:
        """A moment within another step, such as `fetch.first_byte`: it began when that one did."""
        return "." in self.name

    @property
    def is_of_start(self) -> bool:
        """What comes after it is on the same timeline, and in none of its figures."""
        return not self.name.startswith(CONSOLIDATION)

    @property
    def who(self) -> str:
        """For people: what it is and where it runs."""
        kind = ActorKind.SCHEDULER if self.kind is ActorKind.DELIVERY else self.kind
        return kind.value if self.node_id is None else f"{kind.value} {self.node_id}"


@dataclass(frozen=True)
class Interval:
    start_s: float
    end_s: float


@dataclass(frozen=True)
class GanttRow:
    """One bar; a critical one is of a step that everything after it waited for."""

    step: TimedStep
    interval: Interval
    is_critical: bool

    @property
    def is_running(self) -> bool:
        return self.step.end_s is None


def in_order(steps: Sequence[TimedStep]) -> list[TimedStep]:
    def place(step: TimedStep) -> tuple[float, float, str, str]:
        end_s = float("inf") if step.end_s is None else step.end_s
        return (step.start_s, end_s, step.name, step.actor)

    return sorted(steps, key=place)


def last_moment_s(steps: Sequence[TimedStep]) -> float:
    """The latest time that any step of the start knows of; 0 without steps."""
    own = [step for step in steps if step.is_of_start]
    ends_s = (step.start_s if step.end_s is None else step.end_s for step in own)
    return max((*ends_s, *(step.start_s for step in own)), default=0.0)


def gantt_rows(steps: Sequence[TimedStep], critical: Sequence[TimedStep]) -> tuple[GanttRow, ...]:
    """The scheduler's bars, then each stage's in the order in which they begin; no milestones.

    A step that still runs is drawn to the last known moment.
    """
    end_s = last_moment_s(steps)
    return tuple(
        GanttRow(
            step,
            Interval(step.start_s, end_s if step.end_s is None else step.end_s),
            step in critical,
        )
        for step in sorted(in_order(steps), key=_group)
        if not step.is_milestone
    )


def main_steps(
    steps: Sequence[TimedStep], critical: Sequence[TimedStep], min_fraction: float
) -> tuple[TimedStep, ...]:
    """Those that took at least this fraction of the whole, and what everything waited for."""
    end_s = last_moment_s(steps)
    return tuple(
        step
        for step in steps
        if step in critical
        or (end_s if step.end_s is None else step.end_s) - step.start_s >= min_fraction * end_s
    )


def _group(step: TimedStep) -> int:
    """Sorting by it keeps the order within a group."""
    return -1 if step.kind is ActorKind.SCHEDULER else step.stage_index or 0
