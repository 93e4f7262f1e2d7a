"""A fetch as steps of the cold start that waits for it."""

from datetime import datetime

from libs.common.manifest import total_size_bytes
from libs.common.messages import Step
from services.fetcher.download import Fetch


def steps_of(fetch: Fetch, ended_at: datetime | None) -> tuple[Step, ...]:
    """The fetch's own timeline: first byte, then how soon each quarter was readable.

    `ended_at` is when it ended, complete or not.
    """
    progress = fetch.progress
    if progress.started_at is None:
        return ()
    size_bytes = total_size_bytes(fetch.units)
    detail = f"{len(fetch.units)} units, {size_bytes / 1e6:.1f} MB"
    if cached_bytes := progress.bytes_from_cache:
        part = "all" if cached_bytes == size_bytes else f"{cached_bytes / 1e6:.1f} MB"
        detail += f", {part} cached"
    moments = {f"fetch.readable_{share:.0%}": at for share, at in progress.milestones.items()}
    if progress.first_byte_at is not None:
        moments = {"fetch.first_byte": progress.first_byte_at, **moments}
    whole = Step(
        name="fetch",
        started_at=progress.started_at,
        ended_at=progress.milestones.get(1.0, ended_at),
        detail=detail,
    )
    parts = (
        Step(name=name, started_at=progress.started_at, ended_at=at) for name, at in moments.items()
    )
    return (whole, *parts)
