"""When an endpoint gives way to a model that has none. Pure.

Two models that are asked in turn, on a device that holds one of them, could spend their time with
starting: ABABAB, each time with a cold start. So the endpoint that is up serves whoever asks for
its own model meanwhile, and those of the other one gather: AAABBB.

- It stays as long as it is busy, or its model has requests that wait.
- It stays at least as long as bringing it back would take, so that no more than half of the time
  goes into starts (`min_warm_s`).
- It stays while it is at least twice as likely as not that it is asked again within the time that
  bringing it back would take.
- But whoever has waited for its bound gets room: then also a busy one gives way, that is, it takes
  nothing new and ends what it runs. Only the time that it must at least be up counts even then:
  where more models want a device than can have their turn within the bound, shorter turns would
  make everybody wait for longer.

So nobody waits longer than the bound, what is left of one turn, what runs, and a start.
"""

from dataclasses import dataclass

from services.scheduler.policy.scaling.gap_history import GapHistory

MIN_IDLE_S = 1.0  # an endpoint that answered a moment ago is not taken away
BOUND_S = 60.0  # of waiting for others' endpoints
EXPECTED_SOON = 2 / 3


@dataclass(frozen=True)
class Occupant:
    """An endpoint that serves, as far as it matters for whoever wants its room."""

    idle_s: float | None  # None: busy
    warm_s: float  # since it was ready
    restart_s: float  # predicted, to bring it back
    gaps: GapHistory
    has_waiting: bool = False  # requests of its own model wait
    is_pinned: bool = False  # its model shall have it, whoever asks
    # Since nobody has asked for its model, which may be longer than it is there; None: as `idle_s`.
    gap_s: float | None = None


def min_warm_s(restart_s: float, bound_s: float = BOUND_S) -> float:
    """How long an endpoint is up at least."""
    return min(restart_s, bound_s / 2)


def may_give_way(occupant: Occupant, waited_s: float, bound_s: float = BOUND_S) -> bool:
    """`waited_s`: by whoever would get the room."""
    if occupant.is_pinned or occupant.warm_s < min_warm_s(occupant.restart_s, bound_s):
        return False
    if waited_s >= bound_s:
        return True
    if occupant.idle_s is None or occupant.idle_s < MIN_IDLE_S or occupant.has_waiting:
        return False
    gap_s = occupant.idle_s if occupant.gap_s is None else occupant.gap_s
    soon = occupant.gaps.asked_within(gap_s, occupant.restart_s)
    return soon < EXPECTED_SOON
