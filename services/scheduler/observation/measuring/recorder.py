"""Writes what nodes tell of starts and of engines as measurements, in the rounds' transactions."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.database import is_conflict, is_unavailability
from libs.common.startmode import StartMode
from services.scheduler.metrics.metrics import SchedulerMetrics
from services.scheduler.observation.measuring.consolidation_counts import consolidation_counts
from services.scheduler.observation.measuring.device_shares import current_slowdown
from services.scheduler.observation.measuring.first_tokens import FirstTokenLog
from services.scheduler.observation.measuring.speed_figures import Circumstances, speed_figures
from services.scheduler.observation.measuring.speed_log import SeenSpeed, SpeedLog
from services.scheduler.observation.measuring.start_figures import StartedStage, stage_figures
from services.scheduler.observation.measuring.start_log import StartLog
from services.scheduler.observation.measuring.switch_log import SwitchLog
from services.scheduler.observation.measuring.ttft_figures import ColdTtft, ttft_figures
from services.scheduler.policy.changes import Changed
from services.scheduler.policy.cluster import Endpoint, Worker
from services.scheduler.policy.decisions import Decision, EndPrefetch, ServeEndpoint
from services.scheduler.policy.prediction.quantities import MeasurementKey, Quantity
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.store import measurements
from services.scheduler.store.consolidations.switches import record_switches
from services.scheduler.store.starts import predictions

logger = logging.getLogger(__name__)


@dataclass
class NewMeasurements:
    """What a round has written."""

    values: dict[MeasurementKey, list[float]] = field(default_factory=dict)  # oldest first
    after_commit: list[Callable[[], None]] = field(default_factory=list)

    def add(self, found: Mapping[MeasurementKey, float]) -> None:
        for key, value in found.items():
            self.values.setdefault(key, []).append(value)

    def into(self, snapshot: Snapshot) -> Snapshot:
        if not self.values:
            return snapshot
        return snapshot.changed(measured=snapshot.measured.adding(self.values))


@dataclass
class MeasurementRecorder:
    metrics: SchedulerMetrics = field(default_factory=SchedulerMetrics)
    speeds: SpeedLog = field(default_factory=SpeedLog)
    starts: StartLog = field(default_factory=StartLog)
    first_tokens: FirstTokenLog = field(default_factory=FirstTokenLog)
    switches: SwitchLog = field(default_factory=SwitchLog)

    async def record(
        self,
        session: AsyncSession,
        snapshot: Snapshot,
        changed: Changed,
        carried_out: Sequence[Decision],
    ) -> NewMeasurements:
        """`snapshot`: before these decisions. What cannot be measured costs no round."""
        try:
            new = self._found(snapshot, changed, carried_out)
            if changed.is_sweep:
                await self._add_first_tokens(session, snapshot, new)
                await self._write_switches(session, snapshot, new)
            if new.values:
                async with session.begin_nested():
                    await measurements.append(session, new.values)
        except Exception as exc:
            if is_unavailability(exc) and not is_conflict(exc):
                raise
            logger.exception("measurements were not recorded")
            return NewMeasurements()
        return new

    async def _add_first_tokens(
        self, session: AsyncSession, snapshot: Snapshot, new: NewMeasurements
    ) -> None:
        told = self.first_tokens.new(snapshot)
        if not told:
            return
        async with session.begin_nested():
            starts = await predictions.record_first_tokens(
                session, {token.cold_start_id: token.at for token in told}
            )
        for start in starts:
            ttft = ColdTtft(start.model_id, start.predicted_s, start.measured_s, start.corrected_by)
            new.add(ttft_figures(ttft))
            new.after_commit.append(partial(self._count, snapshot.mode, ttft))
        new.after_commit += [partial(self.first_tokens.end, token.endpoint_id) for token in told]

    async def _write_switches(
        self, session: AsyncSession, snapshot: Snapshot, new: NewMeasurements
    ) -> None:
        told = self.switches.new(snapshot)
        if not told:
            return
        async with session.begin_nested():
            written = await record_switches(session, told)
        new.after_commit += [partial(self.switches.note, one) for one in written]

    def _count(self, mode: StartMode, start: ColdTtft) -> None:
        self.metrics.count_ttft(mode, start.predicted_s, start.measured_s)

    def _found(
        self, snapshot: Snapshot, changed: Changed, carried_out: Sequence[Decision]
    ) -> NewMeasurements:
        new = NewMeasurements()
        for endpoint, is_idle in _served(snapshot, carried_out):
            self._add_start(new, snapshot, endpoint, is_idle=is_idle)
        for item in carried_out:
            if isinstance(item, EndPrefetch) and not item.state.is_open:
                new.after_commit.append(partial(self.metrics.count_prefetch, item.state))
        new.after_commit += consolidation_counts(self.metrics, snapshot, carried_out)
        if changed.is_sweep:
            for hop in self.starts.hops(snapshot):
                new.add({MeasurementKey(Quantity.PROMPT_HOP_S): hop.hop_s})
                new.after_commit.append(partial(self.starts.end, hop.endpoint_id))
            for seen in self.speeds.new(snapshot):
                new.add(speed_figures(seen.speed, _circumstances(snapshot, seen)))
                new.after_commit.append(partial(self.speeds.note, seen, snapshot.now_s))
        return new

    def _add_start(
        self, new: NewMeasurements, snapshot: Snapshot, endpoint: Endpoint, *, is_idle: bool
    ) -> None:
        """`is_idle`: nobody waited for it, so its first token is of a later request."""
        for worker in endpoint.member_workers:
            figures = stage_figures(_stage(snapshot, worker))
            if endpoint.num_stages > 1:
                # Its nodes fetched together: perhaps the object store was the limit.
                figures.pop(Quantity.NIC_BYTES_PER_S, None)
            new.add({MeasurementKey(q, node_id=worker.node_id): x for q, x in figures.items()})
        new.after_commit.append(partial(self.starts.follow, endpoint, snapshot.now_s))
        if not is_idle:
            new.after_commit.append(partial(self.first_tokens.follow, endpoint, snapshot.now_s))
        if endpoint.entry is not None:
            new.after_commit.append(partial(self.speeds.follow, endpoint.entry.id))


def _served(snapshot: Snapshot, carried_out: Iterable[Decision]) -> list[tuple[Endpoint, bool]]:
    """Whose start came to its end in this round, and whether nobody waited for it."""
    served = [item for item in carried_out if isinstance(item, ServeEndpoint)]
    found = [(snapshot.endpoints.get(item.endpoint_id), item.is_idle) for item in served]
    return [(e, is_idle) for e, is_idle in found if e is not None and e.cold_start_id is not None]


def _stage(snapshot: Snapshot, worker: Worker) -> StartedStage:
    seen, heard = snapshot.observed.worker(worker), snapshot.observed.fetchers.get(worker.node_id)
    return StartedStage(
        node_id=worker.node_id,
        weight_bytes=_stage_bytes(snapshot, worker),
        steps={} if seen is None else {step.name: step for step in seen.steps},
        fetch=snapshot.observed.fetch(worker),
        node_fetches=() if heard is None else heard.heartbeat.fetches,
    )


def _stage_bytes(snapshot: Snapshot, worker: Worker) -> int:
    """0 where the manifest is not known any more."""
    summary, own = snapshot.summaries.get(worker.manifest_digest), set(worker.unit_digests)
    units = () if summary is None else summary.units
    return sum(unit.size_bytes for unit in units if unit.digest in own)


def _circumstances(snapshot: Snapshot, seen: SeenSpeed) -> Circumstances:
    endpoint = seen.endpoint
    entry = endpoint.entry
    assert entry is not None, "it has told its speed"
    summary = snapshot.summaries.get(entry.manifest_digest)
    return Circumstances(
        model_id=endpoint.model_id,
        weight_bytes=0 if summary is None else summary.weight_bytes,
        num_stages=endpoint.num_stages,
        slowdown=current_slowdown(snapshot, endpoint),
        hop_s=snapshot.measured.cluster.hop_s,
    )
