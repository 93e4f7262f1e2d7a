"""Which chunks of which units are still to be had: the bookkeeping of fetches, without any I/O.

One `UnitDownload` exists per unit on its way, however many fetches want it; each fetch's threads
claim chunks from the units it wants, in its own order, so two fetches of one unit share the work.
Everything here is guarded by one condition variable that the owner passes in.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from libs.common.clock import Clock
from libs.common.states import FetchClass
from libs.common.weights.manifest import UnitEntry
from libs.common.weights.unitheader import ChunkState, UnitState
from libs.common.weights.unitwriter import UnitWriter
from services.fetcher.errors import FetchFailed
from services.fetcher.fetching.governor import Flow

MILESTONES = (0.25, 0.5, 0.75, 1.0)


class UnitDownload:
    def __init__(self, writer: UnitWriter) -> None:
        self.writer = writer
        self.failure: FetchFailed | None = None
        self.fetches: list[Fetch] = []

    @property
    def unit(self) -> UnitEntry:
        return self.writer.unit

    @property
    def verified_bytes(self) -> int:
        """All verified chunks, contiguous or not."""
        states = [self.writer.chunk_state(i) for i in range(self.unit.num_chunks)]
        return sum(
            self.unit.chunk_range(i).nbytes
            for i, state in enumerate(states)
            if state is ChunkState.VERIFIED
        )

    @property
    def flow(self) -> Flow | None:
        """The best flow that pays for this unit: an interactive one if any fetch has it."""
        flows = [fetch.flow for fetch in self.fetches if not fetch.flow.is_closed]
        is_background = [flow.fetch_class is FetchClass.BACKGROUND for flow in flows]
        return flows[is_background.index(min(is_background))] if flows else None


@dataclass(frozen=True)
class ChunkClaim:
    download: UnitDownload
    index: int
    order: int  # position in the fetch's wanted order

    @property
    def digest(self) -> str:
        return self.download.unit.chunk_digests[self.index]

    @property
    def key(self) -> str:
        return self.download.unit.key


@dataclass
class FetchProgress:
    """Filled by the transfer's threads, read by the heartbeat."""

    bytes_total: int = 0
    bytes_done: int = 0
    bytes_from_cache: int = 0
    started_at: datetime | None = None
    first_byte_at: datetime | None = None
    last_byte_at: datetime | None = None  # the latest so far
    hashing_s: float = 0.0  # of all threads together
    milestones: dict[float, datetime] = field(default_factory=dict)  # share readable → when


class Fetch:
    """Units that one fetch wants, in order. Units are added while earlier ones already arrive."""

    def __init__(
        self,
        fetch_id: str,
        flow: Flow,
        units: tuple[UnitEntry, ...],
        *,
        clock: Clock,
        changed: threading.Condition,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.fetch_id, self.flow, self.units = fetch_id, flow, units
        self.progress = FetchProgress(bytes_total=sum(unit.size_bytes for unit in units))
        self.progress.started_at = clock.now()
        self.is_cancelled = threading.Event()
        self.failure: FetchFailed | None = None
        self._downloads: list[UnitDownload] = []
        self._clock, self._changed, self._on_progress = clock, changed, on_progress

    def add(self, download: UnitDownload) -> None:
        """The next unit's file is there. What it already holds counts as taken from the cache."""
        with self._changed:
            have = download.verified_bytes
            self.progress.bytes_from_cache += have
            self._downloads.append(download)
            download.fetches.append(self)
            self.note_commit(have)
            self._changed.notify_all()

    def cancel(self) -> None:
        with self._changed:
            self.is_cancelled.set()
            self._changed.notify_all()

    def leave(self) -> None:
        """This fetch is over; its units belong to the others that want them."""
        with self._changed:
            for download in self._downloads:
                download.fetches.remove(self)
            self._changed.notify_all()

    def next_claim(self) -> ChunkClaim | None:
        """Claim the first chunk nobody works on; block while all that is left is in other hands.

        None means that this fetch needs no more work: complete, failed or cancelled.
        """
        with self._changed:
            while not self.is_over:
                if (claim := self.claim_now()) is not None:
                    return claim
                self._changed.wait(1.0)
            return None

    def claim_now(self) -> ChunkClaim | None:
        """Claim the first chunk nobody works on; None while all that is left is in other hands.

        The caller holds the condition, or is the only thread there is.
        """
        claim = self._first_absent()
        if claim is not None:
            claim.download.writer.begin_chunk(claim.index)
        return claim

    @property
    def is_over(self) -> bool:
        if self.is_cancelled.is_set() or self.failure is not None:
            return True
        self.failure = next((d.failure for d in self._downloads if d.failure), None)
        return self.failure is not None or self.is_complete

    @property
    def is_complete(self) -> bool:
        return len(self._downloads) == len(self.units) and all(
            download.writer.state is UnitState.COMPLETE for download in self._downloads
        )

    def note_bytes(self) -> None:
        """Some bytes arrived, which may turn out wrong."""
        self.progress.last_byte_at = self._clock.now()
        if self.progress.first_byte_at is None:
            self.progress.first_byte_at = self.progress.last_byte_at
            self._on_progress()

    def commit(self, claim: ChunkClaim, *, hashing_s: float = 0.0) -> None:
        """The claimed chunk is in place and genuine."""
        download = claim.download
        with self._changed:
            self.progress.hashing_s += hashing_s
            download.writer.commit_chunk(claim.index)
            for fetch in download.fetches:
                fetch.note_commit(download.unit.chunk_range(claim.index).nbytes)
            self._changed.notify_all()

    def abandon(self, claim: ChunkClaim) -> None:
        """Leave the claimed chunk to another fetch."""
        with self._changed:
            claim.download.writer.abandon_chunk(claim.index)
            self._changed.notify_all()

    def fail(self, claim: ChunkClaim, failure: FetchFailed) -> None:
        """The unit cannot be had: every fetch that wants it, and every reader, learns it."""
        with self._changed:
            claim.download.writer.abandon_chunk(claim.index)
            claim.download.writer.fail(failure.unit_error)
            claim.download.failure = failure
            self.failure = self.failure or failure
            self._changed.notify_all()

    def note_commit(self, nbytes: int) -> None:
        """Some bytes became verified; the caller holds the condition."""
        self.progress.bytes_done += nbytes
        readable = self._readable_bytes()
        for share in MILESTONES:
            if share not in self.progress.milestones:
                if readable < share * self.progress.bytes_total:
                    break
                self.progress.milestones[share] = self._clock.now()
                self._on_progress()

    def _readable_bytes(self) -> int:
        readable = 0
        for download in self._downloads:
            readable += download.writer.verified_bytes
            if not download.writer.is_complete:
                break
        return readable

    def _first_absent(self) -> ChunkClaim | None:
        order = 0
        for download in self._downloads:
            index = download.writer.first_absent_chunk()
            if index is not None:
                return ChunkClaim(download, index, order + index)
            order += download.unit.num_chunks
        return None
