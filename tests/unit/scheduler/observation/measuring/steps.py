"""Steps of starts, in seconds since they began."""

from datetime import UTC, datetime, timedelta

from libs.common.bus.messages import FetchObserved, Step
from libs.common.states import FetchState

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def step(name: str, start_s: float, end_s: float | None, detail: str = "") -> Step:
    ended_at = None if end_s is None else BEGAN + timedelta(seconds=end_s)
    started_at = BEGAN + timedelta(seconds=start_s)
    return Step(name=name, started_at=started_at, ended_at=ended_at, detail=detail)


def started(origin: str = "launched", *, weights_s: float = 5.0) -> tuple[Step, ...]:
    """Launched at 0.1, imported at 1.1, built at 1.4; the last byte comes when it is said to, and a
    quarter of a second later the stage can compute."""
    return (
        step("spawn", 0.1, 0.2, origin),
        step("import", 0.2, 1.1),
        step("build_engine", 1.1, 1.4),
        step("weights", 0.3, weights_s),
        step("load", 1.4, max(1.4, weights_s) + 0.25),
        step("ready", weights_s + 3, weights_s + 3),  # its neighbours took longer
    )


def fetched(
    fetch_id: str = "fetch-1",
    *,
    first_s: float = 1.0,
    last_s: float = 5.0,
    num_bytes: int = 100_000_000,
    num_cached: int = 0,
    state: FetchState = FetchState.COMPLETE,
) -> FetchObserved:
    return FetchObserved(
        fetch_id=fetch_id,
        state=state,
        bytes_done=num_bytes,
        bytes_total=num_bytes,
        bytes_from_cache=num_cached,
        steps=(
            step("fetch", first_s - 0.1, last_s + 0.05),
            step("fetch.first_byte", first_s - 0.1, first_s),
            step("fetch.last_byte", first_s - 0.1, last_s),
        ),
    )
