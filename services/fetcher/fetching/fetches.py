"""The fetches of this node: what is desired becomes running transfers, and is observed."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import inf

from libs.common.bus.messages import FetchObserved, FetchSpec
from libs.common.cancellation import cancel_all
from libs.common.cause_words import words
from libs.common.causes import Cause, CauseKind
from libs.common.clock import Clock
from libs.common.errors import HydraError, ManifestError
from libs.common.observability import telemetry
from libs.common.states import FetchState
from libs.common.told_steps import TOLD_S
from libs.common.weights.manifest import Manifest, UnitEntry
from services.fetcher.errors import HostCacheFull
from services.fetcher.fetching.chunk_schedule import Fetch, UnitDownload
from services.fetcher.fetching.failure_causes import cause_of
from services.fetcher.fetching.fetch_steps import steps_of
from services.fetcher.fetching.governor import NicGovernor
from services.fetcher.fetching.ports import ManifestSource, UnitCache, UnitTransfer

logger = logging.getLogger(__name__)

_ROOM_POLL_S = 0.1


@dataclass
class FetchRecord:
    spec: FetchSpec
    pin: str  # this record's own: the same fetch may be dropped and wanted again at once
    deadline_s: float | None  # on the clock's monotonic_s()
    state: FetchState = FetchState.QUEUED
    cause: Cause | None = None
    fetch: Fetch | None = None
    ended_at: datetime | None = None
    ended_at_s: float | None = None  # monotonic
    task: "asyncio.Task[None] | None" = None

    def observed(self, now_s: float) -> FetchObserved:
        """Its steps leave it some time after its end."""
        observed = FetchObserved(
            fetch_id=self.spec.fetch_id,
            state=self.state,
            cause=self.cause,
        )
        if self.fetch is None:
            return observed
        progress = self.fetch.progress
        is_told = self.ended_at_s is None or now_s < self.ended_at_s + TOLD_S
        return observed.model_copy(
            update={
                "bytes_done": progress.bytes_done,
                "bytes_total": progress.bytes_total,
                "bytes_from_cache": progress.bytes_from_cache,
                "steps": steps_of(self.fetch, self.ended_at) if is_told else (),
            }
        )


@dataclass(frozen=True)
class FetchParts:
    """What a fetch is made with."""

    manifests: ManifestSource
    cache: UnitCache
    transfer: UnitTransfer
    governor: NicGovernor
    clock: Clock
    room_patience_s: float  # how long a fetch waits for leases to end before it fails


class Fetches:
    """`on_change` is called in the event loop's thread whenever something became different."""

    def __init__(self, parts: FetchParts, on_change: Callable[[], None]) -> None:
        self._parts, self._on_change = parts, on_change
        self._records: dict[str, FetchRecord] = {}
        self._parted: dict[str, FetchObserved] = {}  # dropped, but their end was not told yet
        self._downloads: dict[str, UnitDownload] = {}
        self._changed = threading.Condition()
        self._num_started = 0

    def follow(self, specs: Iterable[FetchSpec]) -> None:
        """Start what is new, cancel what nobody wants any more, change classes."""
        wanted = {spec.fetch_id: spec for spec in specs}
        for fetch_id in self._records.keys() - wanted.keys():
            self._drop(fetch_id)
        for fetch_id, spec in wanted.items():
            record = self._records.get(fetch_id)
            if record is None:
                self._start(spec)
            else:
                self._change(record, spec)

    def observed(self) -> tuple[FetchObserved, ...]:
        now_s = self._parts.clock.monotonic_s()
        parted = (o for fetch_id, o in self._parted.items() if fetch_id not in self._records)
        return (*(record.observed(now_s) for record in self._records.values()), *parted)

    @property
    def states(self) -> tuple[tuple[str, FetchState], ...]:
        """Of all that `observed` tells of, by fetch."""
        parted = ((id_, o.state) for id_, o in self._parted.items() if id_ not in self._records)
        return (*((id_, record.state) for id_, record in self._records.items()), *parted)

    def were_told(self, fetches: Iterable[FetchObserved]) -> None:
        """Dropped fetches leave the list once it was told when their steps ended."""
        for fetch in [f for f in fetches if self._parted.get(f.fetch_id) == f]:
            del self._parted[fetch.fetch_id]
            self._on_change()

    @property
    def is_idle(self) -> bool:
        running = (FetchState.QUEUED, FetchState.FETCHING)
        return not any(record.state in running for record in self._records.values())

    def failure_of(self, digests: Sequence[str]) -> str | None:
        """Why one of these units will not come, if that is known: all its fetches have failed."""
        records = self._records.values()
        failed = [record for record in records if record.state is FetchState.FAILED]
        others = [record for record in records if record.state is not FetchState.FAILED]
        lost = frozenset(digests).difference(*(record.spec.unit_digests for record in others))
        causes = (r.cause for r in failed if not lost.isdisjoint(r.spec.unit_digests))
        return next((words(cause) for cause in causes if cause is not None), None)

    async def close(self) -> None:
        """Their threads let go of the files first, if they do so in time."""
        await cancel_all(record.task for record in self._records.values() if record.task)

    def _start(self, spec: FetchSpec) -> None:
        self._num_started += 1
        pin = f"{spec.fetch_id}#{self._num_started}"
        record = FetchRecord(spec, pin, self._deadline_s(spec))
        self._records[spec.fetch_id] = record
        self._parts.cache.pin(record.pin, spec.unit_digests)
        record.task = asyncio.create_task(self._run(record), name=spec.fetch_id)

    def _change(self, record: FetchRecord, spec: FetchSpec) -> None:
        """What may change while a fetch waits or runs is its class and its deadline."""
        changes = {"fetch_class": spec.fetch_class, "deadline_ms": spec.deadline_ms}
        record.spec = record.spec.model_copy(update=changes)
        record.deadline_s = self._deadline_s(spec)
        if record.fetch is not None:
            self._parts.governor.set_class(record.fetch.flow, spec.fetch_class)

    def _deadline_s(self, spec: FetchSpec) -> float | None:
        if spec.deadline_ms is None:
            return None
        return self._parts.clock.monotonic_s() + spec.deadline_ms / 1000

    def _drop(self, fetch_id: str) -> None:
        record = self._records.pop(fetch_id)
        assert record.task is not None
        if record.task.done():
            self._part(record)
        else:
            record.task.add_done_callback(lambda _task: self._part(record))
            record.task.cancel()

    def _part(self, record: FetchRecord) -> None:
        self._parts.cache.unpin(record.pin)
        if record.state in (FetchState.QUEUED, FetchState.FETCHING):
            record.state, record.cause = FetchState.FAILED, Cause(CauseKind.NOBODY_WAITED)
        now_s = self._parts.clock.monotonic_s()
        self._parted[record.spec.fetch_id] = record.observed(now_s)
        self._on_change()

    async def _run(self, record: FetchRecord) -> None:
        try:
            await self._bring(record)
            record.state = FetchState.COMPLETE
            self._log_complete(record)
        except (HydraError, OSError) as exc:
            record.state, record.cause = FetchState.FAILED, cause_of(exc)
            logger.warning("fetch %s failed: %s", record.spec.fetch_id, exc)
        except Exception as exc:
            record.state, record.cause = FetchState.FAILED, cause_of(exc)
            logger.exception("fetch %s failed", record.spec.fetch_id)
        finally:
            record.ended_at = self._parts.clock.now()
            record.ended_at_s = self._parts.clock.monotonic_s()
            self._record_trace(record)
            self._on_change()

    def _log_complete(self, record: FetchRecord) -> None:
        spec, late = record.spec, ""
        late_s = self._parts.clock.monotonic_s() - (record.deadline_s or inf)
        if late_s > 0:
            late = f", {late_s:.1f} s too late"
        logger.info("fetch %s (%s) is complete%s", spec.fetch_id, spec.purpose, late)

    async def _bring(self, record: FetchRecord) -> None:
        spec, parts = record.spec, self._parts
        loaded = await parts.manifests.load(spec.manifest_digest)
        units = _select(loaded.manifest, spec.unit_digests)
        await self._make_room(units)
        # Its class may have changed meanwhile.
        fetch = record.fetch = self._open_fetch(record.spec, units)
        record.state = FetchState.FETCHING
        self._on_change()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(parts.transfer.run(fetch))
                group.create_task(self._add_units(fetch, units))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None  # the second is only an echo of the first
        finally:
            parts.governor.close_flow(fetch.flow)
            fetch.leave()
            self._forget_downloads(units)

    def _open_fetch(self, spec: FetchSpec, units: tuple[UnitEntry, ...]) -> Fetch:
        loop = asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(self._on_change)

        return Fetch(
            spec.fetch_id,
            self._parts.governor.open_flow(spec.fetch_class),
            units,
            clock=self._parts.clock,
            changed=self._changed,
            on_progress=tell,
        )

    async def _add_units(self, fetch: Fetch, units: tuple[UnitEntry, ...]) -> None:
        """Create the files one after the other; the first ones fill while the last are made."""
        for unit in units:
            fetch.add(await self._download(unit))
            self._parts.governor.reconsider()  # another fetch's thread may be at work on it
            self._on_change()

    async def _download(self, unit: UnitEntry) -> UnitDownload:
        """The one on its way, or a new one."""
        while True:
            writer = await self._parts.cache.open(unit)
            with self._changed:
                download = self._downloads.get(unit.digest)
                if download is None or download.writer is not writer:
                    download = self._downloads[unit.digest] = UnitDownload(writer)
                if download.failure is None:
                    return download  # otherwise it failed just now: open gives another writer

    def _forget_downloads(self, units: tuple[UnitEntry, ...]) -> None:
        unused = [
            unit.digest
            for unit in units
            if unit.digest in self._downloads and not self._downloads[unit.digest].fetches
        ]
        for digest in unused:
            del self._downloads[digest]
        self._parts.cache.release(unused)

    async def _make_room(self, units: tuple[UnitEntry, ...]) -> None:
        """Evict for all units at once; while workers hold what is there, wait for them a little."""
        deadline_s = time.monotonic() + self._parts.room_patience_s
        while True:
            try:
                return await self._parts.cache.make_room(units)
            except HostCacheFull as exc:
                if exc.can_never_fit or time.monotonic() > deadline_s:
                    raise
            await asyncio.sleep(_ROOM_POLL_S)

    def _record_trace(self, record: FetchRecord) -> None:
        if record.fetch is None or record.fetch.progress.started_at is None:
            return
        progress = record.fetch.progress
        telemetry.record_span(
            "fetch",
            record.spec.traceparent,
            record.fetch.progress.started_at,
            self._parts.clock.now(),
            {
                "hydra.fetch_id": record.spec.fetch_id,
                "hydra.purpose": record.spec.purpose.value,
                "hydra.bytes": progress.bytes_done,
                "hydra.bytes_from_cache": progress.bytes_from_cache,
            },
            None if record.cause is None else words(record.cause),
        )


def _select(manifest: Manifest, digests: tuple[str, ...]) -> tuple[UnitEntry, ...]:
    for digest in digests:
        if digest not in manifest.units_by_digest:
            raise ManifestError(f"unit {digest} is not in the manifest")
    return tuple(manifest.units_by_digest[digest] for digest in dict.fromkeys(digests))
