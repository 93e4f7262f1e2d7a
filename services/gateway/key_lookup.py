"""Finds API keys in Postgres, one statement at a time, however many are asked for.

Keys that are asked for while a statement runs go together into the next one. So guesses of
strangers, however many, take one connection of the pool.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from services.gateway.store.keys import KeyInfo

_Answer = asyncio.Future[KeyInfo | None]


class KeyFinder(Protocol):
    async def find_all(self, keys_sha256: Collection[str]) -> Mapping[str, KeyInfo]:
        """Those that exist and were not revoked, by hash. Raises DatabaseUnavailable."""


@dataclass
class KeyLookup:
    finder: KeyFinder
    pause_s: float = 0.0  # between two statements
    _waiting: dict[str, _Answer] = field(default_factory=dict)
    _task: "asyncio.Task[None] | None" = None

    async def find(self, key_sha256: str) -> KeyInfo | None:
        """Raises DatabaseUnavailable."""
        answer = self._waiting.get(key_sha256)
        if answer is None:
            answer = self._waiting[key_sha256] = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="look up keys")
        return await asyncio.shield(answer)  # others may wait for it too

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                await self._answer(batch)
                await asyncio.sleep(self.pause_s)
        finally:
            self._task = None

    async def _answer(self, batch: dict[str, _Answer]) -> None:
        try:
            found = await self.finder.find_all(batch.keys())
        except Exception as exc:  # whatever it is belongs to those who asked
            for answer in batch.values():
                answer.set_exception(exc)
                answer.exception()  # nobody may be left to look at it
            return
        except BaseException:
            for answer in batch.values():
                answer.cancel()
            raise
        for key_sha256, answer in batch.items():
            answer.set_result(found.get(key_sha256))
