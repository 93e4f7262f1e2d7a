"""A fetch as steps of the cold start that waits for it."""

from datetime import datetime

from libs.common.bus.messages import Step
from libs.common.weights.manifest import total_size_bytes
from services.fetcher.fetching.chunk_schedule import Fetch, FetchProgress


def steps_of(fetch: Fetch, ended_at: datetime | None) -> tuple[Step, ...]:
    """The fetch's own timeline: first byte, how soon each quarter was readable, last byte, hashed.

    Chunks are hashed while they arrive: what passes between the last byte and `fetch.hashed` is
    what hashing cost. `ended_at` is when it ended, complete or not.
    """
    progress = fetch.progress
    if progress.started_at is None:
        return ()
    size_bytes = total_size_bytes(fetch.units)
    detail = f"{len(fetch.units)} units, {size_bytes / 1e6:.1f} MB"
    if cached_bytes := progress.bytes_from_cache:
        part = "all" if cached_bytes == size_bytes else f"{cached_bytes / 1e6:.1f} MB"
        detail += f", {part} cached"
    whole = Step(
        name="fetch",
        started_at=progress.started_at,
        ended_at=progress.milestones.get(1.0, ended_at),
        detail=detail,
    )
    return (whole, *(_moment(name, progress, at) for name, at in _moments(progress).items()))


def _moments(progress: FetchProgress) -> dict[str, datetime]:
    moments = {f"fetch.readable_{share:.0%}": at for share, at in progress.milestones.items()}
    if progress.first_byte_at is not None:
        moments = {"fetch.first_byte": progress.first_byte_at, **moments}
    hashed_at = progress.milestones.get(1.0)
    if progress.last_byte_at is not None and hashed_at is not None:
        moments |= {"fetch.last_byte": progress.last_byte_at, "fetch.hashed": hashed_at}
    return moments


def _moment(name: str, progress: FetchProgress, at: datetime) -> Step:
    assert progress.started_at is not None
    is_hashed = name == "fetch.hashed"
    detail = f"{progress.hashing_s:.3f} s of hashing, beside the fetch" if is_hashed else ""
    return Step(name=name, started_at=progress.started_at, ended_at=at, detail=detail)
