"""Rows of commands and of what is known of gaps, as a sweep reads them."""

import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import text

from libs.common.records.database import Database
from libs.common.states import ModelCommandKind
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import history_of
from services.scheduler.policy.scaling.unasked import MAX_AHEAD
from services.scheduler.store import scaling
from tests.integration.servers import TestDatabase

NOW_S = 100_000.0
# Asked every ten minutes: one is to be there from 512 s to 609 s after the last request.
REGULAR = history_of([600.0] * 40)
_MODELS = """
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints, is_keep_alive_auto)
SELECT id, 't', id, '/m', CASE WHEN id = 'deleted' THEN 'DELETING' ELSE 'READY' END,
    1, 1, 1, 1, 1, 1, 1, id <> 'fixed'
FROM unnest(CAST(:ids AS text[])) AS new (id)
"""


@pytest_asyncio.fixture
async def store(database: TestDatabase) -> AsyncIterator[Database]:
    store = Database.open(database.owner)
    yield store
    await store.close()


async def write(store: Database, idle_s: dict[str, float]) -> None:
    """Models by name, with how long nobody has asked them."""
    known = {
        id_: ModelActivity(REGULAR, idle_since_s=NOW_S - seconds, restart_s=5.0)
        for id_, seconds in idle_s.items()
    }
    async with store.transaction() as session:
        await session.execute(text(_MODELS), {"ids": list(idle_s)})
        await scaling.write_activities(session, known, NOW_S)


async def test_windows_that_are_over_do_not_keep_others_from_being_started_ahead(
    store: Database,
) -> None:
    past = {f"past-{i}": 5000.0 + i for i in range(MAX_AHEAD + 1)}

    await write(store, {**past, "expected": 560.0, "later": 400.0})

    async with store.transaction() as session:
        assert await scaling.load_ahead(session) == {"expected"}


async def test_only_what_may_start_by_its_gaps_is_started_ahead(store: Database) -> None:
    await write(store, {"expected": 560.0, "fixed": 560.0, "deleted": 560.0})

    async with store.transaction() as session:
        assert await scaling.load_ahead(session) == {"expected"}


async def test_a_command_of_a_kind_that_is_not_known_is_left_out_and_told(
    store: Database, caplog: pytest.LogCaptureFixture
) -> None:
    await write(store, {"model-1": 0.0})
    async with store.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO model_commands (id, model_id, kind, deadline_at)"
                " SELECT 'of-' || kind, 'model-1', kind, now() + make_interval(secs => left_s)"
                " FROM (VALUES ('dance', 60), ('sleep', -60), ('unload', 60)) AS new (kind, left_s)"
            )
        )

        with caplog.at_level(logging.WARNING):
            commands = await scaling.load_commands(session, NOW_S)

    assert [command.kind for command in commands["model-1"]] == [ModelCommandKind.UNLOAD]
    assert "of-dance" in caplog.text
    assert "of-sleep" not in caplog.text, "its time is over, and its row may stay for long"


async def test_what_is_known_of_a_model_is_read_as_it_was_written(store: Database) -> None:
    known = {
        "late": ModelActivity(REGULAR, NOW_S - 20.0, restart_s=5.0, late_s=1.5, busy_s=8.0),
        "unknown": ModelActivity(REGULAR, NOW_S - 20.0),
    }
    async with store.transaction() as session:
        await session.execute(text(_MODELS), {"ids": list(known)})
        await scaling.write_activities(session, known, NOW_S)

    async with store.transaction() as session:
        read = await scaling.load_activities(session, list(known), NOW_S)

    figures = {id_: (one.restart_s, one.late_s, one.busy_s) for id_, one in read.items()}
    assert figures == {"late": (5.0, 1.5, 8.0), "unknown": (None, None, None)}
