"""A time that an SLO is about, beside what it allows. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SloTime:
    """None for what is not known: of an old row, or of an answer without such a time."""

    took_ms: float | None
    slo_ms: int | None
    margin_ms: float | None  # how much less it took than it may; below 0: how much more
    ratio: float | None  # of what it may take


def slo_time(took_ms: float | None, slo_ms: int | None) -> SloTime:
    if took_ms is None or slo_ms is None:
        return SloTime(took_ms, slo_ms, None, None)
    return SloTime(took_ms, slo_ms, slo_ms - took_ms, took_ms / slo_ms)
