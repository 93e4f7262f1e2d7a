"""Accounts that are closed now and then: of requests whose gateways can no longer do it, and of
device memory that is held from one hour to the next."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.policy.observed import Observed
from services.scheduler.store.accounting import accounts, memory_accounts

UNREPORTED_INTERVAL_S = 60.0
REPORTED_INTERVAL_S = 5.0
MEMORY_INTERVAL_S = 20.0  # between looks for workers that were last counted in an hour before
MAX_COUNTED_WORKERS = 200  # at once: a fleet of thousands is counted over some sweeps


@dataclass
class Accounting:
    silence_s: float = accounts.SILENCE_S
    _unreported_at_s: float | None = None
    _reported_at_s: float | None = None
    _memory_at_s: float | None = None

    async def close(self, session: AsyncSession, observed: Observed, now_s: float) -> None:
        """Of requests by what agents tell of ends that nobody acknowledged; by nothing where none
        does."""
        if _is_due(self._reported_at_s, REPORTED_INTERVAL_S, now_s):
            heard = observed.agents.values()
            ends = [end for agent in heard for end in agent.heartbeat.unacknowledged]
            if ends:
                self._reported_at_s = now_s
                await accounts.close_reported(session, ends, self.silence_s)
        if _is_due(self._unreported_at_s, UNREPORTED_INTERVAL_S, now_s):
            self._unreported_at_s = now_s
            await accounts.close_unreported(session, accounts.UNREPORTED_S)
        if _is_due(self._memory_at_s, MEMORY_INTERVAL_S, now_s):
            has_more = await memory_accounts.count_ended_hours(session, MAX_COUNTED_WORKERS)
            self._memory_at_s = None if has_more else now_s


def _is_due(last_s: float | None, interval_s: float, now_s: float) -> bool:
    return last_s is None or now_s - last_s >= interval_s
