"""Whoever else holds the leader's lock: whether it still lives, and how to take the lock from it.

A leader that hangs keeps its session, and with it the lock. Its sign of life is the query that it
runs on that session again and again; Postgres itself remembers when the last one was, so that no
two clocks are compared.
"""

import logging

import asyncpg

logger = logging.getLogger(__name__)

TERMINATION_TIMEOUT_S = 1.0  # for a backend to end; it has nobody to ask
# A database that itself stood still makes everybody look silent; a second look tells.
NUM_LOOKS = 2

_LOCK_PREFIX = "hydra-leader/"
_SESSIONS_PREFIX = "hydra-scheduler/"
MAX_NAME_BYTES = 63  # Postgres cuts longer ones; the lock's prefix is the shorter one

_HOLDER = """
SELECT session.pid, session.application_name,
    extract(epoch FROM clock_timestamp() - session.state_change)::float AS silence_s
FROM pg_locks AS lock JOIN pg_stat_activity AS session USING (pid)
WHERE lock.locktype = 'advisory' AND lock.granted
  AND ((lock.classid::bigint << 32) | lock.objid::bigint) = $1
  AND lock.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_SILENCE = f"SELECT max(silence_s) FROM ({_HOLDER}) AS holder"
_END_HOLDER = f"""
SELECT application_name, pg_terminate_backend(pid, $3)
FROM ({_HOLDER}) AS holder WHERE silence_s > $2
"""
_END_SESSIONS = """
SELECT pg_terminate_backend(pid)
FROM pg_stat_activity
WHERE datname = current_database() AND application_name = ANY($1::text[])
"""


def lock_session_name(scheduler_id: str) -> str:
    """Of the session that holds the lock, or waits for it. `leadership` would not tell whose it
    is: a holder may hang before it has written its name there."""
    return f"{_LOCK_PREFIX}{scheduler_id}"[:MAX_NAME_BYTES]


def session_name(scheduler_id: str) -> str:
    """Of a scheduler's other sessions: by it they can be found and ended."""
    return f"{_SESSIONS_PREFIX}{scheduler_id}"[:MAX_NAME_BYTES]


class LockHolder:
    """The lock's present holder, as seen through the connection of somebody who waits for it."""

    def __init__(self, lock: int, max_silence_s: float) -> None:
        self._lock, self._max_silence_s = lock, max_silence_s
        self._num_silent_looks = 0

    async def is_hung(self, connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
        """Silent for too long, also at the look before."""
        silence_s = await connection.fetchval(_SILENCE, self._lock)
        is_silent = silence_s is not None and silence_s > self._max_silence_s
        self._num_silent_looks = self._num_silent_looks + 1 if is_silent else 0
        return self._num_silent_looks >= NUM_LOOKS

    async def depose(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        """End its sessions: the lock's, if it is still silent, and those whose open transactions
        hold its epoch."""
        logger.error("the leader shows no sign of life, its sessions are ended")
        timeout_ms = int(1000 * TERMINATION_TIMEOUT_S)
        ended = await connection.fetch(_END_HOLDER, self._lock, self._max_silence_s, timeout_ms)
        names = [row["application_name"].removeprefix(_LOCK_PREFIX) for row in ended]
        await connection.fetch(_END_SESSIONS, [session_name(name) for name in names])
        self._num_silent_looks = 0
