"""The leader dies in the middle of a four-stage cold start; the standby goes on."""

import asyncio
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from deploy.local.stack import LocalStack
from libs.common.database import Database
from tests.acceptance.client import Answer, Client
from tests.acceptance.observing import known_agent_pids, settled
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]

TAKEOVER_S = 5.0
PHASES = {
    "planned": "SELECT count(*) FROM workers WHERE ended_at IS NULL",
    "registered": "SELECT count(*) FROM workers WHERE ended_at IS NULL AND public_key IS NOT NULL",
    "linked": "SELECT count(*) FROM workers WHERE ended_at IS NULL AND spec->>'next' IS NOT NULL",
}


@pytest.mark.parametrize("phase", PHASES)
async def test_the_leader_killed_in_a_cold_start_is_replaced_in_time_and_nothing_starts_twice(
    wide_client: Client, wide_stack: LocalStack, layered: Path, phase: str
) -> None:
    known_agent_pids(wide_stack)
    model = await wide_client.ready("led", str(layered), keep_alive_s=2, max_pipeline_size=4)
    database = Database.open(wide_stack.servers.database_settings("scheduler"))

    async def value(sql: str) -> object:
        async with database.transaction() as session:
            return await session.scalar(text(sql), {"model": model["id"]})

    answer = Answer()
    task = asyncio.create_task(
        wide_client.stream("led", "go", into=answer, max_tokens=50, temperature=0)
    )
    await eventually(lambda: value(PHASES[phase]), timeout_s=30, what=phase)
    leader = await value("SELECT scheduler_id FROM leadership")
    epoch = await value("SELECT epoch FROM leadership")
    assert isinstance(epoch, int)
    wide_stack.kill(str(leader))
    killed_s = time.monotonic()

    async def is_taken_over() -> bool:
        return await value("SELECT epoch FROM leadership") != epoch

    await eventually(is_taken_over, what="the next leader")
    takeover_s = time.monotonic() - killed_s
    await asyncio.wait_for(task, 60)

    assert answer.is_complete, answer
    print(f"\ntakeover when {phase}: {takeover_s:.2f} s")
    assert takeover_s < TAKEOVER_S
    starts = "SELECT count(*) FROM cold_starts WHERE model_id=:model"
    assert await value(starts) == 1
    await database.close()
    await wide_stack.wait_ready(str(leader))
    await wide_client.delete("led")
    await settled(wide_stack, wide_client)
