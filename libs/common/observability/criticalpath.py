"""Who waited for whom in a cold start, and what its time went to. Pure.

The path is walked backwards from the first token. Of all that a step needed, what came last is
what it waited for; that step was critical until then, and so on to the beginning. Segments touch
each other, so their lengths add up to the whole start.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from libs.common.observability.timeline import (
    HOP,
    ActorKind,
    Interval,
    TimedStep,
    in_order,
    last_moment_s,
)

CLOCK_SKEW_S = 0.1  # another node's step may seem to end so much after what waited for it

# Steps that run beside the ones that feed them and end after those: the first only waits, the
# others compute or copy what has arrived already.
_FED_BY = {
    "weights": ("fetch",),
    "device_copy": ("weights", "fetch"),
    "load": ("weights", "fetch", "device_copy"),
    "prefill": ("weights", "fetch", "device_copy", HOP),
    # Who is not built yet, or waits for weights, takes nothing from others.
    HOP: ("import", "build_engine", "warm_up", "linked", "weights", "fetch", "device_copy"),
    "head": (HOP,),
    "first_token": ("prefill", "head"),
}
# Steps that need other stages to have come so far: to have done these, or all they do (None).
_GATHERING: dict[str, tuple[str, ...] | None] = {
    "connect": ("bind",),
    "linked": ("bind", "connect"),
    HOP: ("prefill",),
    "prefill": None,
    "first_token": None,
}
_WAITING = ("weights", "connect", "linked")  # beside what the worker does meanwhile
# Said by the agent about the worker, a message later: nobody waits for them.
_REMARKS = ("ready", "first_token")


@dataclass(frozen=True)
class Segment:
    """The part of a step that everything after it waited for."""

    step: TimedStep
    interval: Interval

    @property
    def seconds(self) -> float:
        return self.interval.end_s - self.interval.start_s


@dataclass(frozen=True)
class Failure:
    """Of a start that did not come to serve."""

    guilty_worker_id: str | None  # whom it began with; None: nobody can say


def critical_path(
    steps: Sequence[TimedStep], now_s: float | None = None, *, failure: Failure | None = None
) -> tuple[Segment, ...]:
    """In order of time, without segments that took no time.

    It ends with the first token, or where there is none yet with what ended last or still runs;
    that counts as running until `now_s`, by default the last moment that any step knows of.
    Of a start that failed the path ends in what was done last by, or for, the worker that the
    failure began with. Where nobody can say there is none: nobody knows what was waited for.
    """
    known = tuple(step for step in in_order(steps) if not step.is_milestone)
    walk = _Walk(known, last_moment_s(steps) if now_s is None else now_s)
    last = walk.last_of(known if failure is None else _steps_of_the_guilty(known, failure))
    return tuple(reversed([segment for segment in walk.backwards(last) if segment.seconds > 0]))


def _steps_of_the_guilty(steps: Sequence[TimedStep], failure: Failure) -> tuple[TimedStep, ...]:
    guilty = failure.guilty_worker_id
    if guilty is None:
        return ()
    stage_index = _stage_of(guilty, steps)
    return tuple(
        step
        for step in steps
        if step.kind is not ActorKind.DELIVERY
        and (step.actor == guilty or _is_of_stage(step, stage_index))
    )


def _stage_of(worker_id: str, steps: Sequence[TimedStep]) -> int | None:
    """Of a worker that its node was never told of no step has the id: where there is but one
    stage, it is of that one."""
    stages = {step.stage_index for step in steps if step.stage_index is not None}
    named = (step.stage_index for step in steps if step.actor.rpartition("/")[2] == worker_id)
    return next(named, min(stages) if len(stages) == 1 else None)


def _are_of_one_stage(a: TimedStep, b: TimedStep) -> bool:
    """Whether both are part of the start of the same worker."""
    return _is_of_stage(a, b.stage_index)


def _is_of_stage(step: TimedStep, stage_index: int | None) -> bool:
    return stage_index is not None and step.stage_index == stage_index


@dataclass(frozen=True)
class _Needed:
    """A step that another one needed, and until when it can have held that one up."""

    step: TimedStep
    until_s: float


class _Walk:
    def __init__(self, steps: tuple[TimedStep, ...], now_s: float) -> None:
        self._steps, self._now_s = steps, now_s
        self._has_hops = any(step.name == HOP for step in steps)

    def backwards(self, last: TimedStep | None) -> Iterator[Segment]:
        if last is None:
            return
        step: TimedStep | None = last
        until_s, seen = self._end_s(last), {id(last)}
        while step is not None:
            needed = [n for n in self._needed_by(step, until_s) if id(n.step) not in seen]
            latest = max(needed, key=lambda n: (n.until_s, n.step.start_s), default=None)
            from_s = min(until_s, step.start_s if latest is None else latest.until_s)
            yield Segment(step, Interval(from_s, until_s))
            step, until_s = None if latest is None else latest.step, from_s
            seen.add(id(step))

    def last_of(self, steps: Sequence[TimedStep]) -> TimedStep | None:
        """The first token, or what ended last; of those that ended together not who waited."""
        for step in steps:
            if step.name == "first_token" and step.end_s is not None:
                return step

        def order(step: TimedStep) -> tuple[float, bool, float]:
            return (self._end_s(step), step.name not in _WAITING, step.start_s)

        return max(steps, key=order, default=None)

    def _needed_by(self, step: TimedStep, until_s: float) -> Iterator[_Needed]:
        fed = [*self._feeding(step, until_s)]
        # Other steps may have ended between a token and the agent's word of it.
        is_told_late = step.name == "first_token" and bool(fed)
        own = fed if is_told_late else [*self._earlier(step), *fed]
        yield from own
        yield from self._gathered(step, until_s)
        if not own:
            yield from self._triggers(step)

    def _earlier(self, step: TimedStep) -> Iterator[_Needed]:
        """What the same actor had done before. A node is told by two independent deliveries."""
        if step.kind is ActorKind.DELIVERY:
            yield from self._fetched_before(step)
            return
        for other in self._steps:
            is_before = other is not step and self._end_s(other) <= step.start_s
            if other.actor == step.actor and is_before:
                yield _Needed(other, self._end_s(other))

    def _fetched_before(self, step: TimedStep) -> Iterator[_Needed]:
        """A sequential start tells the agent only when the weights are there."""
        for other in self._steps if step.name == "tell agent" else ():
            is_fetch = other.kind is ActorKind.FETCHER and _are_of_one_stage(other, step)
            if is_fetch and self._end_s(other) <= step.start_s:
                yield _Needed(other, self._end_s(other))

    def _feeding(self, step: TimedStep, until_s: float) -> Iterator[_Needed]:
        names = _FED_BY.get(step.name, ())
        for other in self._steps:
            if other.name in names and _are_of_one_stage(other, step):
                yield _Needed(other, min(self._end_s(other), until_s))

    def _gathered(self, step: TimedStep, until_s: float) -> Iterator[_Needed]:
        if step.name not in _GATHERING:
            return
        names = _GATHERING[step.name]
        if names is None and self._has_hops:  # they say who waited for whom
            return
        for other in self._steps:
            is_elsewhere = other.kind is ActorKind.WORKER and other.actor != step.actor
            is_in_time = self._end_s(other) <= until_s + CLOCK_SKEW_S
            is_needed = other.name not in _REMARKS if names is None else other.name in names
            if is_elsewhere and is_in_time and is_needed:
                yield _Needed(other, min(self._end_s(other), until_s))

    def _triggers(self, step: TimedStep) -> Iterator[_Needed]:
        """Whoever was told began before the teller knew that it had arrived."""
        told = {ActorKind.FETCHER: "tell fetcher", ActorKind.WORKER: "tell agent"}.get(step.kind)
        for other in self._steps:
            is_delivery = other.name == told and _are_of_one_stage(other, step)
            is_plan = other.kind is ActorKind.SCHEDULER and step.kind is not ActorKind.SCHEDULER
            if is_delivery or is_plan:
                yield _Needed(other, min(self._end_s(other), step.start_s))

    def _end_s(self, step: TimedStep) -> float:
        return max(step.start_s, self._now_s if step.end_s is None else step.end_s)
