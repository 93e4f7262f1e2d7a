"""What a request waited for before its first token, from the moments in its row. Pure."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class WaitTimes:
    """Seconds, one after the other; None for what has not ended, or has not begun."""

    for_endpoint_s: float | None  # in the queue, until it was given to one for the first time
    for_cold_start_s: float | None  # until one served, whatever failed before; 0 if it did already
    for_first_token_s: float | None  # prefill, and other requests before it


@dataclass(frozen=True)
class RequestMoments:
    """Of one request and of the cold start that it waited for last, if there was one."""

    arrived_at: datetime
    assigned_at: datetime | None
    first_token_at: datetime | None
    has_cold_start: bool
    ready_at: datetime | None


def wait_times(moments: RequestMoments) -> WaitTimes:
    """A request that found a serving endpoint was never queued: assigned when it arrived.

    The first token may be out an instant before the endpoint is on record as ready.
    """
    assigned_at = moments.assigned_at
    if assigned_at is None and moments.first_token_at is not None:
        assigned_at = moments.arrived_at
    if assigned_at is None:
        return WaitTimes(None, None, None)
    served_at: datetime | None = assigned_at
    if moments.has_cold_start:
        ready_at = moments.ready_at or moments.first_token_at
        served_at = None if ready_at is None else max(ready_at, assigned_at)
    return WaitTimes(
        _seconds(moments.arrived_at, assigned_at),
        _seconds(assigned_at, served_at),
        _seconds(served_at, moments.first_token_at),
    )


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return max(0.0, (end - start).total_seconds())
