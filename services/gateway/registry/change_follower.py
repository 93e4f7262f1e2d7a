"""Tells which models changed, at the cost of those that did.

Each row has the number of the transaction that wrote it last (a trigger sets it). Numbers are given
out when transactions begin to write, not when they commit, so "all above the highest that I have
seen" would miss one that commits late. But a snapshot says which transaction is the oldest that
still runs: all below it have ended, so what they wrote was visible. Each read therefore begins with
the oldest one that ran at the read before, and sees some rows twice rather than one never.

A deleted model's row is written once more, as DELETING, and stays for the retention, days at least.
An import's progress is no change: it would be a thousand a second, and who asks for it reads it.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from libs.common.clock import Clock
from services.gateway.store.model_entry import ModelKey
from services.gateway.store.model_queries import ChangedModel, Horizon

PAGE_ROWS = 500  # of one statement: some milliseconds of the loop
MAX_GAP_S = 3600.0  # between two reads; after a longer one, deleted rows may be gone


class ChangeReader(Protocol):
    """Every method raises DatabaseUnavailable."""

    async def read_horizon(self) -> Horizon: ...

    async def changed(
        self, since_xid: int, until_xid: int, after: ChangedModel | None, limit: int
    ) -> Collection[ChangedModel]:
        """In the order of transactions, then of models; the next ones `after`."""

    async def changed_last(
        self, before: ChangedModel | None, limit: int
    ) -> tuple[ChangedModel, ...]:
        """In the opposite order, from the end."""


@dataclass
class ChangeFollower:
    reader: ChangeReader
    clock: Clock
    _horizon: Horizon | None = None
    _read_at_s: float = 0.0
    _taken: set[tuple[str, int]] = field(default_factory=set)  # which the next read meets again

    @property
    def has_begun(self) -> bool:
        return self._horizon is not None

    async def read(self, take: Callable[[Collection[ModelKey]], Awaitable[None]]) -> bool:
        """Tells `take` what changed since the last read, in pages. False where nobody can say: at
        the first read, after a long gap, and of a server that was started since, because it may
        have been restored from an older state. Raises DatabaseUnavailable."""
        now_s, horizon, before = self.clock.monotonic_s(), await self.reader.read_horizon(), (
            self._horizon
        )  # fmt: skip
        is_continued = (
            before is not None
            and before.server_started_at == horizon.server_started_at
            and now_s - self._read_at_s < MAX_GAP_S
        )
        taken: set[tuple[str, int]] = set()
        if before is not None and is_continued:
            taken = await self._read_pages(before, horizon, take)
        self._horizon, self._read_at_s, self._taken = horizon, now_s, taken
        return is_continued

    async def _read_pages(
        self,
        before: Horizon,
        horizon: Horizon,
        take: Callable[[Collection[ModelKey]], Awaitable[None]],
    ) -> set[tuple[str, int]]:
        """Which of them the next read will meet again."""
        again: set[tuple[str, int]] = set()
        after, since_xid = None, before.oldest_running_xid
        while True:
            page = tuple(await self.reader.changed(since_xid, horizon.next_xid, after, PAGE_ROWS))
            new = [change for change in page if (change.model_id, change.xid) not in self._taken]
            await take({change.key for change in new})
            again |= {
                (change.model_id, change.xid)
                for change in page
                if change.xid >= horizon.oldest_running_xid
            }
            if len(page) < PAGE_ROWS:
                return again
            after = page[-1]
