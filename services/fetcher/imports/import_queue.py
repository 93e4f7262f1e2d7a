"""Imports from the work queue, one at a time: any fetcher may get any of them."""

import asyncio
import logging
from collections import OrderedDict
from pathlib import Path

from libs.common.bus.bus import Bus
from libs.common.bus.messages import ImportModel, ImportProgressed
from libs.common.bus.subjects import IMPORT_PROGRESS
from libs.common.bus.workqueue import Job, WorkQueue, kept_alive
from libs.common.clock import Clock
from libs.common.errors import BusError
from libs.common.observability import telemetry
from libs.common.states import ImportState
from services.fetcher.errors import ImportRefused
from services.fetcher.imports.importer import ImportedModel, Importer, ImportProgress, Report
from services.fetcher.imports.summary import summarize

logger = logging.getLogger(__name__)

_TAKE_TIMEOUT_S = 5.0
_IDLE_PAUSE_S = 0.2  # `take` returns at once while the server is away
_REPORT_PERIOD_S = 0.5
_MAX_REMEMBERED = 1_000


class ImportWorker:
    def __init__(
        self, queue: WorkQueue, importer: Importer, bus: Bus, clock: Clock, node_id: str
    ) -> None:
        self._queue, self._importer, self._bus = queue, importer, bus
        self._clock, self._node_id = clock, node_id
        self._ended: OrderedDict[str, ImportProgressed] = OrderedDict()  # by import, oldest first

    async def run(self) -> None:
        """For ever."""
        while True:
            job = await self._queue.take(timeout_s=_TAKE_TIMEOUT_S)
            if job is None:
                await asyncio.sleep(_IDLE_PAUSE_S)
            else:
                with telemetry.remote_context(job.headers):
                    await self.handle(job)

    async def handle(self, job: Job) -> None:
        """Import, tell how it ended, and only then acknowledge: a crash before brings it back, and
        so does an end or an acknowledgement that was lost, which needs only telling again."""
        ended = self._ended.get(job.message.import_id)
        if ended is None:
            ended = await self._do(job)
            self._remember(ended)
        await self._publish(ended)
        await job.done()

    async def _do(self, job: Job) -> ImportProgressed:
        started_at = self._clock.now()
        async with kept_alive(job):
            ended = await self._import(job.message)
        telemetry.record_span(
            "import",
            telemetry.current_traceparent(),
            started_at,
            self._clock.now(),
            {"hydra.model_id": ended.model_id, "hydra.bytes": ended.bytes_done},
            ended.cause,
        )
        return ended

    def _remember(self, ended: ImportProgressed) -> None:
        self._ended[ended.import_id] = ended
        if len(self._ended) > _MAX_REMEMBERED:
            self._ended.popitem(last=False)

    async def _import(self, job: ImportModel) -> ImportProgressed:
        latest = ImportProgressed(
            model_id=job.model_id,
            import_id=job.import_id,
            node_id=self._node_id,
            state=ImportState.RUNNING,
        )

        def report(progress: ImportProgress) -> None:
            nonlocal latest
            latest = latest.model_copy(update=vars(progress))

        async def tell() -> None:
            while True:
                await self._publish(latest)
                await asyncio.sleep(_REPORT_PERIOD_S)

        telling = asyncio.create_task(tell())
        try:
            imported = await self._run(job, report)
        except ImportRefused as exc:
            logger.warning("import of %s refused: %s", job.model_id, exc)
            cause = f"{exc} [{exc.code}]"
            return latest.model_copy(update={"state": ImportState.FAILED, "cause": cause})
        except Exception:
            logger.exception("import of %s failed", job.model_id)
            cause = "internal error, see the fetcher's log; register the model again [internal]"
            return latest.model_copy(update={"state": ImportState.FAILED, "cause": cause})
        finally:
            telling.cancel()
        logger.info(
            "imported %s: %d of %d units were new",
            job.model_id,
            imported.num_units_sent,
            len(imported.manifest.units),
        )
        done = {
            "state": ImportState.DONE,
            "manifest_digest": imported.manifest_digest,
            "summary": summarize(imported.manifest),
        }
        return latest.model_copy(update=done)

    async def _run(self, job: ImportModel, report: Report) -> ImportedModel:
        if job.manifest_digest is not None:
            stored = await self._importer.find_stored(job.manifest_digest, job.suspect_keys, report)
            if stored is not None:
                return stored
        return await self._importer.run(
            Path(job.source), tenant=job.tenant, is_public=job.is_public, report=report
        )

    async def _publish(self, message: ImportProgressed) -> None:
        try:
            await self._bus.publish(IMPORT_PROGRESS, message.model_id, message)
        except BusError as exc:
            # Lost progress is told again; a lost end brings the job back, which is then short.
            logger.warning("import progress was not sent: %s", exc)
