"""Finds models in Postgres by name, one statement at a time, however many are asked for.

Names that are asked for while a statement runs go together into the next ones, tenants in turn, so
guessed names, however many, take one connection of the pool and no other tenant's time. One
statement at a time also gives answers an order: what is told last was read last.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from libs.common.errors import DatabaseUnavailable
from libs.common.fair_queue import FairQueue
from services.gateway.store.model_entry import ModelEntry, ModelKey

BATCH_NAMES = 128  # of one statement: some milliseconds of the loop


class ModelFinder(Protocol):
    async def find_all(self, keys: Collection[ModelKey]) -> Mapping[ModelKey, ModelEntry]:
        """Those that exist. Raises DatabaseUnavailable."""


@dataclass
class _Wanted:
    answer: "asyncio.Future[ModelEntry | None]"
    is_asked: bool  # by a request; else it is read because it changed


@dataclass
class ModelLookup:
    """`keep` is told what was read, in the order of reading, and whether a request asked for it."""

    finder: ModelFinder
    keep: Callable[[ModelKey, ModelEntry | None, bool], None]
    _queue: FairQueue[ModelKey] = field(default_factory=FairQueue)
    _waiting: dict[ModelKey, _Wanted] = field(default_factory=dict)
    _reading: dict[ModelKey, _Wanted] = field(default_factory=dict)
    _task: "asyncio.Task[None] | None" = None

    def is_reading(self, key: ModelKey) -> bool:
        """A statement for it runs now, which may not see what was committed since it began."""
        return key in self._reading

    async def read(self, key: ModelKey) -> ModelEntry | None:
        """As it is at some moment after the call. Raises DatabaseUnavailable."""
        return await asyncio.shield(self._want(key, is_asked=True))  # others may wait for it too

    async def read_again(self, keys: Collection[ModelKey]) -> None:
        """As `read`, for what changed."""
        answers = [self._want(key, is_asked=False) for key in keys]
        for answer in answers:
            await asyncio.shield(answer)

    def _want(self, key: ModelKey, *, is_asked: bool) -> "asyncio.Future[ModelEntry | None]":
        wanted = self._waiting.get(key)
        if wanted is None:
            answer = asyncio.get_running_loop().create_future()
            wanted = self._waiting[key] = _Wanted(answer, is_asked)
            self._queue.put(key.tenant, key)
        wanted.is_asked |= is_asked
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="look up models")
        return wanted.answer

    async def _run(self) -> None:
        try:
            while self._queue:
                self._take_batch()
                await self._read_batch()
        finally:
            self._task = None

    def _take_batch(self) -> None:
        self._reading = {}
        while self._queue and len(self._reading) < BATCH_NAMES:
            key = self._queue.take()
            self._reading[key] = self._waiting.pop(key)

    async def _read_batch(self) -> None:
        try:
            found = await self.finder.find_all(self._reading.keys())
            batch, self._reading = self._reading, {}
        except Exception as exc:  # whatever it is belongs to those who asked
            if isinstance(exc, DatabaseUnavailable):
                self._take_all()  # nobody else need wait to hear the same
            self._fail(exc)
            return
        except BaseException:
            self._take_all()
            for wanted in self._reading.values():
                wanted.answer.cancel()
            raise
        for key, wanted in batch.items():
            entry = found.get(key)
            self.keep(key, entry, wanted.is_asked)
            wanted.answer.set_result(entry)

    def _take_all(self) -> None:
        while self._queue:
            key = self._queue.take()
            self._reading[key] = self._waiting.pop(key)

    def _fail(self, exc: Exception) -> None:
        failed, self._reading = self._reading, {}
        for wanted in failed.values():
            wanted.answer.set_exception(exc)
            wanted.answer.exception()  # nobody may be left to look at it
