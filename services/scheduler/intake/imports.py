"""Imports of registered models: put on the work queue while silent, their reports into rows.

Silence tells nothing of why: the job may wait behind others, or its queue may have lost it. Putting
it again is right for both, because the queue takes no second job of an import that it has."""

import logging
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import ImportModel, ImportProgressed
from libs.common.bus.workqueue import WorkQueue
from libs.common.clock import Clock
from libs.common.errors import BusError
from libs.common.ids import new_id
from libs.common.observability import telemetry
from libs.common.states import ImportState
from services.scheduler.intake.import_ends import announce, end_import, follow_damage
from services.scheduler.intake.import_watch import ImportWatch
from services.scheduler.observation.trace_contexts import TraceContexts
from services.scheduler.store import damaged_objects, models
from services.scheduler.store.fenced_transactions import FencedTransactions
from services.scheduler.store.models import PendingImport

logger = logging.getLogger(__name__)

MAX_SILENCE_S = 600.0  # a job that waits behind others is silent too: ask ever more rarely


@dataclass
class _Tries:
    num: int = 0
    next_at_s: float = 0.0


@dataclass
class Imports:
    """`hear` keeps reports in memory, `work` brings everything forward; call it each second."""

    fenced: FencedTransactions
    workqueue: WorkQueue
    clock: Clock
    silence_s: float
    watch: ImportWatch
    traces: TraceContexts = field(default_factory=TraceContexts)  # of the registrations, by model
    _reports: dict[str, ImportProgressed] = field(default_factory=dict)  # latest, by model
    _tries: dict[str, _Tries] = field(default_factory=dict)  # by import
    # Whose jobs nobody needs: of ended imports, deleted models, and of fetchers that fell silent.
    _withdrawn: set[str] = field(default_factory=set)
    _has_queue: bool = False

    def hear(self, report: ImportProgressed) -> bool:
        """Whether it should be written at once: an end is never replaced by an older report."""
        self.watch.hear(report, self.clock.monotonic_s())
        known = self._reports.get(report.model_id)
        is_same = known is not None and known.import_id == report.import_id
        if known is None or not is_same or known.state is ImportState.RUNNING:
            self._reports[report.model_id] = report
        return report.state is not ImportState.RUNNING

    async def work(self) -> None:
        """Raises DatabaseUnavailable, LeadershipLost; what was heard is kept until written."""
        await self._write_reports()
        await self._put_silent()

    async def _write_reports(self) -> None:
        if not self._reports:
            return
        batch = dict(self._reports)
        async with self.fenced.transaction() as session:
            for report in batch.values():
                await _write(session, report)
        for model_id, report in batch.items():
            if self._reports.get(model_id) is report:
                del self._reports[model_id]

    async def _put_silent(self) -> None:
        async with self.fenced.transaction() as session:
            await follow_damage(session)
            for abandoned in self.watch.take_abandoned():
                logger.info("the import of model %s is put again", abandoned.model_id)
                self._withdrawn.add(abandoned.import_id)
                self._tries.setdefault(abandoned.import_id, _Tries()).next_at_s = 0.0
                await models.forget_import_put(session, abandoned.model_id)
            silent = await models.take_silent_imports(session, self.silence_s)
            jobs = [await _job(session, pending) for pending in silent]
            open_ids = await models.load_import_ids(session)
        self._withdrawn |= self._tries.keys() - open_ids
        self._tries = {id_: tries for id_, tries in self._tries.items() if id_ in open_ids}
        await self._withdraw_ended(open_ids)
        for job in jobs:
            if self._is_due(job.import_id) and not await self._put(job):
                async with self.fenced.transaction() as session:
                    await models.forget_import_put(session, job.model_id)

    async def _withdraw_ended(self, open_ids: frozenset[str]) -> None:
        try:
            for import_id in self._withdrawn - open_ids:
                await self._withdraw(import_id)
        except BusError as exc:
            logger.warning("jobs of ended imports stay in the queue for now: %s", exc)
            self._has_queue = False

    async def _withdraw(self, import_id: str) -> None:
        await self._ensure_queue()
        await self.workqueue.withdraw(import_id)
        self._withdrawn.discard(import_id)

    async def _ensure_queue(self) -> None:
        if not self._has_queue:
            await self.workqueue.ensure()
            self._has_queue = True

    def _is_due(self, import_id: str) -> bool:
        tries = self._tries.setdefault(import_id, _Tries())
        return self.clock.monotonic_s() >= tries.next_at_s

    async def _put(self, job: ImportModel) -> bool:
        tries = self._tries[job.import_id]
        try:
            await self._ensure_queue()
            if job.import_id in self._withdrawn:
                await self._withdraw(job.import_id)
            traceparent = self.traces.of(job.model_id)
            with telemetry.remote_context({"traceparent": traceparent} if traceparent else None):
                await self.workqueue.put(job)
        except BusError as exc:
            logger.warning("the import of model %s waits: %s", job.model_id, exc)
            self._has_queue = False  # the server may have come back empty
            return False
        patience_s = min(self.silence_s * 2**tries.num, MAX_SILENCE_S)
        # A little less, because the next look comes when the silence is just over.
        next_at_s = self.clock.monotonic_s() + 0.9 * patience_s
        self._tries[job.import_id] = _Tries(tries.num + 1, next_at_s)
        return True


async def _job(session: AsyncSession, pending: PendingImport) -> ImportModel:
    import_id = pending.import_id
    if import_id is None:
        import_id = new_id("import")
        await models.set_import_id(session, pending.model_id, import_id)
    suspects: list[str] = []
    if pending.manifest_digest is not None:
        suspects = await damaged_objects.needed_by(session, pending.manifest_digest)
    return ImportModel(
        model_id=pending.model_id,
        import_id=import_id,
        source=pending.source,
        tenant=pending.tenant,
        is_public=pending.is_public,
        manifest_digest=pending.manifest_digest,
        suspect_keys=tuple(suspects),
    )


async def _write(session: AsyncSession, report: ImportProgressed) -> None:
    if report.state is ImportState.RUNNING:
        await models.set_import_progress(
            session, report.model_id, report.import_id, report.bytes_done, report.bytes_total
        )
    elif await end_import(session, report):
        logger.info("import of model %s: %s %s", report.model_id, report.state, report.cause or "")
        await announce(session, [report.model_id])
