"""Who leads: the holder of one advisory lock, on a connection that no pool ever touches.

asyncpg's pools reset connections with `pg_advisory_unlock_all`, hence the dedicated one. The lock
says who may try; the epoch in `leadership`, checked by every transaction, says who may commit.
"""

import asyncio
import logging

import asyncpg
from sqlalchemy import make_url

from libs.common.settings import DatabaseSettings
from services.scheduler.errors import LeadershipLost
from services.scheduler.leadership.lock_holder import LockHolder, lock_session_name

logger = logging.getLogger(__name__)

LEADER_LOCK = 0x6879_6472_616C  # "hydral"; migrations lock another number
CONNECT_TIMEOUT_S = 5.0
CHECK_TIMEOUT_S = 3.0
MAX_SILENCE_S = 2.5  # of a leader, unless somebody says otherwise
_NOT_NOW = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection cut off in the middle of its own recovery
)

_TRY_LOCK = "SELECT pg_try_advisory_lock($1)"
# Milliseconds since 1970, so that it grows in a database restored from an older state, too: nodes
# and gateways, which refuse what is lower, may have seen later epochs than that state.
_TAKE_EPOCH = """
INSERT INTO leadership (id, epoch, scheduler_id, taken_at)
VALUES (1, (1000 * extract(epoch FROM clock_timestamp()))::bigint, $1, now())
ON CONFLICT (id) DO UPDATE
SET epoch = greatest(leadership.epoch + 1, excluded.epoch), scheduler_id = excluded.scheduler_id,
    taken_at = now()
RETURNING epoch
"""
_HOLDS_LOCK = """
SELECT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted
      AND ((classid::bigint << 32) | objid::bigint) = $1
)
"""


class Leadership:
    """A held lock and its epoch. Ends with `release`, or by LeadershipLost from `watch`."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]", epoch: int) -> None:
        self._connection = connection
        self.epoch = epoch

    async def watch(self, interval_s: float) -> None:
        """Check the lock for ever, which is also the sign of life that standbys look for.

        Raises LeadershipLost at the first doubt.
        """
        while True:
            await asyncio.sleep(interval_s)
            try:
                holds = await self._connection.fetchval(
                    _HOLDS_LOCK, LEADER_LOCK, timeout=CHECK_TIMEOUT_S
                )
            except _NOT_NOW as exc:
                reason = f"the lock's connection is in doubt ({exc or type(exc).__name__})"
                raise LeadershipLost(self.epoch, reason) from exc
            if not holds:
                raise LeadershipLost(self.epoch, "the lock is not ours any more")

    async def release(self) -> None:
        """Closing the connection frees the lock; a standby has it within its next try."""
        try:
            await self._connection.close(timeout=CHECK_TIMEOUT_S)
        except _NOT_NOW as exc:
            logger.warning("the lock's connection was cut off: %s", exc or type(exc).__name__)
            self._connection.terminate()


class Candidate:
    """A scheduler that wants to lead; keeps its connection between tries."""

    def __init__(
        self,
        settings: DatabaseSettings,
        scheduler_id: str,
        max_silence_s: float = MAX_SILENCE_S,
    ) -> None:
        self._settings = settings
        self._scheduler_id = scheduler_id
        self._holder = LockHolder(LEADER_LOCK, max_silence_s)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def try_to_lead(self) -> Leadership | None:
        """Leadership under a new epoch, or None while another holds it or Postgres is away."""
        try:
            if self._connection is None:
                self._connection = await _connect(self._settings, self._scheduler_id)
            epoch = await self._take(self._connection)
        except _NOT_NOW as exc:
            logger.warning("leadership waits for Postgres: %s", exc or type(exc).__name__)
            self.close()
            return None
        if epoch is None:
            return None
        leadership = Leadership(self._connection, epoch)
        self._connection = None
        logger.info("%s leads, epoch %d", self._scheduler_id, epoch)
        return leadership

    def close(self) -> None:
        """Give up; a lock that was taken but not handed out goes with the connection."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _take(self, connection: "asyncpg.Connection[asyncpg.Record]") -> int | None:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            if not await self._has_lock(connection):
                return None
            return int(await connection.fetchval(_TAKE_EPOCH, self._scheduler_id))

    async def _has_lock(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        if await connection.fetchval(_TRY_LOCK, LEADER_LOCK):
            return True
        if not await self._holder.is_hung(connection):
            return False
        await self._holder.depose(connection)
        return bool(await connection.fetchval(_TRY_LOCK, LEADER_LOCK))


async def _connect(
    settings: DatabaseSettings, scheduler_id: str
) -> "asyncpg.Connection[asyncpg.Record]":
    url = make_url(settings.url).set(drivername="postgresql")
    return await asyncpg.connect(
        url.render_as_string(hide_password=False),
        password=settings.password,
        timeout=CONNECT_TIMEOUT_S,
        server_settings={
            "application_name": lock_session_name(scheduler_id),
            # A leader whose machine vanished must not hold the lock for hours.
            "tcp_keepalives_idle": "2",
            "tcp_keepalives_interval": "1",
            "tcp_keepalives_count": "3",
            "tcp_user_timeout": "4000",
        },
    )
