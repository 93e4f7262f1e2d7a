"""What the scheduler and a gateway write of the same request's end, in either order."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from sqlalchemy import func, insert, select

from libs.common.bus.messages import UnacknowledgedEnd
from libs.common.records.database import Database
from libs.common.records.tables import RequestRow, UsageRow
from libs.common.states import RequestOutcome
from services.gateway.store.requests import BegunRow, EndedRow, RequestStore
from services.scheduler.store import requests
from services.scheduler.store.accounting import accounts
from tests.integration.servers import TestDatabase

CRASHED = EndedRow(
    id="req-1", tenant="default", model_id="model-1", gateway_id="gateway-1", api_key_id="key-1",
    attempt=2, endpoint_id="ep-2", num_prompt_tokens=10, max_tokens=8_000, arrived_age_s=3.0,
    assigned_age_s=None, remaining_s=100.0, num_generated_tokens=4_000, first_token_age_s=1.0,
    ended_age_s=0.0, outcome="worker_crashed", error="two workers died", is_slo_met=False,
)  # fmt: skip


@pytest_asyncio.fixture
async def owner(database: TestDatabase) -> AsyncIterator[Database]:
    """The scheduler's view of Postgres, with its row of an assigned request."""
    owner = Database.open(database.owner)
    async with owner.transaction() as session:
        await session.execute(
            insert(RequestRow).values(
                id="req-1", tenant="default", model_id="model-1", gateway_id="gateway-1",
                attempt=1, state="ASSIGNED", endpoint_id="ep-1", num_prompt_tokens=10,
                max_tokens=8_000, deadline_at=func.now(),
            )
        )  # fmt: skip
    yield owner
    await owner.close()


@pytest_asyncio.fixture
async def store(database: TestDatabase) -> AsyncIterator[RequestStore]:
    gateway = Database.open(database.gateway)
    yield RequestStore(gateway)
    await gateway.close()


async def end_by_scheduler(owner: Database, outcome: RequestOutcome, error: str | None) -> None:
    async with owner.transaction() as session:
        await requests.end(session, ["req-1"], outcome, error)


async def written(owner: Database) -> tuple[RequestRow, list[UsageRow]]:
    async with owner.transaction() as session:
        row = (await session.scalars(select(RequestRow))).one()
        return row, list(await session.scalars(select(UsageRow)))


@pytest.mark.parametrize("is_scheduler_first", [True, False], ids=["scheduler", "gateway"])
async def test_a_crashed_requests_tokens_count_once_whoever_writes_its_end_first(
    owner: Database, store: RequestStore, is_scheduler_first: bool
) -> None:
    if not is_scheduler_first:
        await store.write((), (CRASHED,))
    await end_by_scheduler(owner, RequestOutcome.WORKER_CRASHED, "2 endpoints ended")
    for _ in range(3):  # a commit whose answer was lost is written again
        await store.write((), (CRASHED,))

    row, usage = await written(owner)
    assert (row.state, row.outcome, row.is_slo_met) == ("ENDED", "worker_crashed", False)
    assert row.error == ("2 endpoints ended" if is_scheduler_first else "two workers died")
    assert (row.num_generated_tokens, row.api_key_id) == (4_000, "key-1")
    assert (row.attempt, row.endpoint_id) == (2, "ep-2")
    assert row.first_token_at is not None and row.ended_at is not None
    counted = [(u.num_requests, u.num_prompt_tokens, u.num_generated_tokens) for u in usage]
    assert counted == [(1, 10, 4_000)]


@pytest.mark.parametrize("is_agent_first", [True, False], ids=["agent", "gateway"])
async def test_tokens_that_an_agent_counted_are_not_counted_again_by_a_gateway_that_comes_back(
    owner: Database, store: RequestStore, is_agent_first: bool
) -> None:
    end = UnacknowledgedEnd(request_id="req-1", attempt=2, num_generated_tokens=3_999)
    await end_by_scheduler(owner, RequestOutcome.GATEWAY_LOST, "silent")
    for is_agent in (is_agent_first, not is_agent_first):
        if is_agent:
            async with owner.transaction() as session:
                await accounts.close_reported(session, [end], silence_s=-1.0)
        else:
            await store.write((), (CRASHED,))

    row, usage = await written(owner)
    assert row.num_generated_tokens == (3_999 if is_agent_first else 4_000)
    counted = [(u.num_requests, u.num_prompt_tokens, u.num_generated_tokens) for u in usage]
    assert counted == [(1, 10, row.num_generated_tokens)]


@pytest.mark.parametrize(
    ("theirs", "ours", "kept"),
    [
        pytest.param("deadline", "internal_error", "deadline", id="the scheduler's refusal"),
        pytest.param("deadline", "stop", "stop", id="the client had its whole answer"),
        pytest.param("cancelled", "deadline", "deadline", id="the gateway cancelled it, and why"),
        pytest.param("gateway_lost", "length", "length", id="the gateway lives after all"),
        pytest.param("gateway_lost", "gateway_lost", "gateway_lost", id="it was told that"),
    ],
)
async def test_why_it_ended_is_told_by_who_knows(
    owner: Database, store: RequestStore, theirs: str, ours: str, kept: str
) -> None:
    await end_by_scheduler(owner, RequestOutcome(theirs), None)

    await store.write((), (replace(CRASHED, outcome=ours),))

    row, usage = await written(owner)
    assert row.outcome == kept
    assert [counted.num_generated_tokens for counted in usage] == [4_000]


async def test_a_late_beginning_does_not_open_what_the_scheduler_has_ended(
    owner: Database, store: RequestStore
) -> None:
    await end_by_scheduler(owner, RequestOutcome.DEADLINE, "late")
    names = BegunRow.__dataclass_fields__

    begun = BegunRow(**{name: getattr(CRASHED, name) for name in names})
    await store.write((begun,), ())

    row, usage = await written(owner)
    assert (row.state, row.is_accounted, usage) == ("ENDED", False, [])
