"""One transaction for all that handlers want of the database at a moment.

Opening, fencing and committing one costs more than what most handlers do in it, and only one runs
at a time: a thousand submissions, each with its own, would make the next one wait for seconds.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.cancellation import cancel_all
from libs.common.errors import DatabaseUnavailable
from libs.common.fair_queue import FairQueue
from libs.common.records.sqlstates import Meaning, meaning_of
from services.scheduler.errors import LeadershipLost
from services.scheduler.intake.queue_readings import QueueReadings
from services.scheduler.observation.queued_requests import QueuedRequests
from services.scheduler.store.fenced_transactions import FencedTransactions, Lane

MAX_TOGETHER = 64  # so that those who come meanwhile wait for a fraction of a second
MAX_TRIES = 3  # of one whose row somebody else writes at the same moment

Result = TypeVar("Result")
Work = Callable[[AsyncSession, QueueReadings], Awaitable[Result]]


@dataclass(frozen=True, eq=False)
class _Asked(Generic[Result]):
    request_id: str
    model_id: str | None  # where it is known
    work: Work[Result]
    result: "asyncio.Future[Result]"


@dataclass
class SharedTransactions:
    """Those who come while a transaction runs share the next one: of many, tenants in turn, each
    tenant's in order of arrival. So what one request asks for is done in that order, too.

    Within one they are in the order of their requests' ids, and so are the rows that are there
    already locked, as gateways lock theirs. New rows follow together: where that and a gateway's
    new rows lock each other out, each is tried alone.
    """

    fenced: FencedTransactions
    queued: QueuedRequests
    _waiting: FairQueue[_Asked[Any]] = field(default_factory=FairQueue)
    _taken: list[_Asked[Any]] = field(default_factory=list)  # of the waiting, by what runs
    _running: "asyncio.Task[None] | None" = None

    async def run(
        self, tenant: str, request_id: str, work: Work[Result], model_id: str | None = None
    ) -> Result:
        """What `work` returns, once committed; it locks no row but the request's, and may run
        twice. Raises DatabaseUnavailable, LeadershipLost, and what `work` raises."""
        result: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.put(tenant, _Asked(request_id, model_id, work, result))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run_all())
        return await result

    async def close(self) -> None:
        """Whoever still waits, in a transaction or for one, gets no answer from this leader."""
        if self._running is not None:
            await cancel_all([self._running])
        for asked in [*self._taken, *self._take(len(self._waiting))]:
            _fail(asked, LeadershipLost(self.fenced.epoch, "this scheduler leads no longer"))

    async def _run_all(self) -> None:
        while self._waiting:
            await self._run_together()
            self._taken = []

    async def _run_together(self) -> None:
        """What fails alone, by bad data or a bug, must not cost the others their answer."""
        try:
            async with self.fenced.transaction(Lane.SUBMISSIONS) as session:
                self._taken = self._take(MAX_TOGETHER)
                readings = self._readings(session, self._taken)
                results = [await asked.work(session, readings) for asked in self._taken]
                met = await readings.write()
        except Exception as exc:
            if len(self._taken) > 1 and not _is_in_doubt(exc):
                for asked in self._taken:
                    await self._run_alone(asked)
                return
            if isinstance(exc, (DatabaseUnavailable, LeadershipLost)):
                self.queued.forget()  # whether it committed is not known
            self._fail_all(exc)
        else:
            readings.committed()
            for asked, result in zip(self._taken, results, strict=True):
                if asked.request_id in met:
                    await self._run_alone(asked)
                else:
                    _answer(asked, result)

    def _fail_all(self, exc: Exception) -> None:
        """Whoever the transaction was for; when none could be opened, whoever waits."""
        for asked in self._taken or self._take(len(self._waiting)):
            _fail(asked, exc)

    async def _run_alone(self, asked: _Asked[Any]) -> None:
        for _ in range(MAX_TRIES):
            try:
                async with self.fenced.transaction(Lane.SUBMISSIONS) as session:
                    readings = self._readings(session, [asked])
                    result = await asked.work(session, readings)
                    met = await readings.write()
            except Exception as exc:
                if isinstance(exc, DatabaseUnavailable):
                    self.queued.forget()
                _fail(asked, exc)
                return
            readings.committed()
            if not met:
                _answer(asked, result)
                return
        _fail(asked, DatabaseUnavailable("the request's row comes and goes"))

    def _readings(self, session: AsyncSession, asked: list[_Asked[Any]]) -> QueueReadings:
        model_ids = {item.model_id for item in asked if item.model_id is not None}
        request_ids = {item.request_id for item in asked}
        return QueueReadings(session, self.queued, request_ids, model_ids)

    def _take(self, at_most: int) -> list[_Asked[Any]]:
        taken = [self._waiting.take() for _ in range(min(at_most, len(self._waiting)))]
        return sorted(taken, key=lambda asked: asked.request_id)


def _is_in_doubt(exc: Exception) -> bool:
    """Whether anything of the transaction may stand, or nothing can be done now. One that has met
    another (40xxx) was rolled back."""
    if isinstance(exc, DatabaseUnavailable):
        return meaning_of(exc.sqlstate or "") is not Meaning.CONFLICT
    return isinstance(exc, LeadershipLost)


def _answer(asked: _Asked[Any], result: object) -> None:
    if not asked.result.done():  # else its handler was cancelled
        asked.result.set_result(result)


def _fail(asked: _Asked[Any], exc: Exception) -> None:
    if not asked.result.done():
        asked.result.set_exception(exc)
