"""The checker of `hydraserve doctor --invariants`, run on a stack of a test."""

import asyncio
import time

from deploy.local.doctor.examination import examine, look_at
from deploy.local.doctor.values import StackState
from deploy.local.stack import LocalStack
from libs.common.errors import DatabaseUnavailable
from libs.common.records.database import Database
from tests.support.failures import BrokenInvariant

TIMEOUT_S = 45.0  # of a busy machine; a stack in order costs one look
_POLL_S = 0.1


async def require_invariants(stack: LocalStack) -> None:
    """Raises BrokenInvariant. Other tests' stacks on this machine are not looked at.

    Raises DatabaseUnavailable where Postgres does not come back: then nothing is known.
    """
    database = Database.open(stack.servers.database_settings("scheduler"), pool_size=1)
    deadline_s = time.monotonic() + TIMEOUT_S

    async def look() -> StackState:
        while True:
            try:
                return await look_at(stack.options.state, database)
            except DatabaseUnavailable:  # the test has ended it a moment ago
                if time.monotonic() > deadline_s:
                    raise
                await asyncio.sleep(_POLL_S)

    try:
        found = await examine(look, timeout_s=TIMEOUT_S)
    finally:
        await database.close()
    if found.broken:
        raise BrokenInvariant([str(broken) for broken in found.broken])
