"""Writes rows of requests to Postgres in batches, and keeps them while Postgres is away."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from libs.common.clock import Clock
from libs.common.errors import DatabaseUnavailable, RowsRefused
from services.gateway.store.requests import BegunRow, EndedRow

logger = logging.getLogger(__name__)

BATCH_S = 0.1  # the most that a row waits for others
_RETRY_S = 0.5
_MAX_RETRY_S = 5.0
MAX_KEPT = 50_000  # rows; some 20 MB. Past it the oldest are lost, and counted
_MAX_BATCH = 500

_Row = TypeVar("_Row", bound=BegunRow)


NotifyEnded = Callable[[tuple[str, ...]], Awaitable[None]]  # ids whose ends are written now


class RowWriter(Protocol):
    async def write(self, begun: tuple[BegunRow, ...], ended: tuple[EndedRow, ...]) -> None:
        """All or nothing. Raises DatabaseUnavailable, or RowsRefused for some row among them."""


@dataclass(frozen=True)
class _Noted:
    row: BegunRow
    at_s: float


class Journal:
    """`run` writes until cancelled; `close` then writes the rest, with a deadline."""

    def __init__(self, writer: RowWriter, clock: Clock, notify_ended: NotifyEnded) -> None:
        self._writer = writer
        self._notify_ended = notify_ended
        self._clock = clock
        self._kept: dict[str, _Noted] = {}  # the latest of each request, oldest first
        self._wake = asyncio.Event()
        self.num_lost = 0

    def note(self, row: BegunRow) -> None:
        """A beginning, or an end (an EndedRow), which replaces the beginning not yet written."""
        self._kept.pop(row.id, None)
        self._kept[row.id] = _Noted(row, self._clock.monotonic_s())
        if len(self._kept) > MAX_KEPT:
            self._lose(next(iter(self._kept)), "Postgres was away too long")
        self._wake.set()

    @property
    def num_kept(self) -> int:
        return len(self._kept)

    async def run(self) -> None:
        retry_s = _RETRY_S
        while True:
            await self._wake.wait()
            await asyncio.sleep(BATCH_S)
            try:
                await self.flush()
                retry_s = _RETRY_S
            except DatabaseUnavailable as exc:
                logger.warning("%d request rows wait: %s", self.num_kept, exc)
                await asyncio.sleep(retry_s)
                retry_s = min(2 * retry_s, _MAX_RETRY_S)

    async def flush(self) -> None:
        """Write what is kept. Raises DatabaseUnavailable; what was not written stays."""
        while self._kept:
            await self._write(list(self._kept.values())[:_MAX_BATCH])
        self._wake.clear()

    async def _write(self, batch: list[_Noted]) -> None:
        """A batch that is refused is halved until the row that is to blame is alone, and lost."""
        rows = [self._aged(noted) for noted in batch]
        ended = tuple(row for row in rows if isinstance(row, EndedRow))
        begun = tuple(row for row in rows if not isinstance(row, EndedRow))
        try:
            await self._writer.write(begun, ended)
        except RowsRefused as exc:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._write(batch[:middle])
                await self._write(batch[middle:])
            elif self._is_latest(batch[0]):
                self._lose(batch[0].row.id, str(exc))
            return
        for noted in filter(self._is_latest, batch):
            del self._kept[noted.row.id]
        if ended:
            await self._notify_ended(tuple(row.id for row in ended))

    def _is_latest(self, noted: _Noted) -> bool:
        """Else its request's end came meanwhile."""
        return self._kept.get(noted.row.id) is noted

    def _lose(self, request_id: str, cause: str) -> None:
        del self._kept[request_id]
        self.num_lost += 1
        logger.error("the row of request %s is lost: %s", request_id, cause)

    async def close(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self.flush()
        except (TimeoutError, DatabaseUnavailable) as exc:
            logger.error("%d request rows are lost at the end: %s", self.num_kept, exc)

    def _aged(self, noted: _Noted) -> BegunRow:
        """Ages were true when noted; they have grown since."""
        return _older(noted.row, self._clock.monotonic_s() - noted.at_s)


def _older(row: _Row, by_s: float) -> _Row:
    ages = {
        name: value + by_s
        for name, value in vars(row).items()
        if name.endswith("_age_s") and value is not None
    }
    return replace(row, **ages, remaining_s=row.remaining_s - by_s)
