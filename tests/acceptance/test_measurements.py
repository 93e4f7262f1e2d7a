"""A cold start and two answers leave what the next start is predicted with."""

from pathlib import Path

import pytest
from sqlalchemy import text

from deploy.local.stack import LocalStack
from libs.common.records.database import Database
from tests.acceptance.client import Client
from tests.acceptance.observing import settled
from tests.support.checkpoints import make_tiny_llama
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

_VALUES = text(
    'SELECT m.quantity, m."values" FROM measurements AS m'
    " LEFT JOIN models ON models.id = m.model_id WHERE m.node_id <> '' OR models.name = :name"
)
WANTED = {"prefill_s_per_token", "step_1_s"}  # a tail only where the weights came last
LAUNCHES = {"standby_launch_s", "build_s"}  # with a standby, and without


async def test_what_a_start_and_its_answers_took_is_kept(
    client: Client, stack: LocalStack, sources: Path
) -> None:
    weights = make_tiny_llama(sources / "measured", seed=27, is_endless=True)
    await client.ready("measured", str(weights), keep_alive_s=30)
    database = Database.open(stack.servers.database_settings("scheduler"), pool_size=1)

    async def measured() -> dict[str, list[float]] | None:
        async with database.transaction() as session:
            rows = (await session.execute(_VALUES, {"name": "measured"})).all()
        found = {row.quantity: list(row.values) for row in rows}
        return found if found.keys() >= WANTED and found.keys() & LAUNCHES else None

    try:
        for prompt in ("hello", "hello again"):  # the first may have waited for weights
            answer = await client.stream("measured", prompt, max_tokens=20, temperature=0)
            assert answer.is_complete, answer
        found = await eventually(measured, timeout_s=60, poll_s=0.2, what=f"rows of {WANTED}")
    finally:
        await database.close()

    assert isinstance(found, dict)
    assert all(0 <= value < 10 for values in found.values() for value in values), found
    assert min(found["prefill_s_per_token"] + found["step_1_s"]) > 0, found
    await client.delete("measured")
    await settled(stack, client)
