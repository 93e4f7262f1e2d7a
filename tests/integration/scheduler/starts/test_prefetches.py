"""Weights of models that may be asked soon: as rows, in desired states, and across leaders."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from libs.common.bus.messages import FetchSpec
from libs.common.causes import Cause, CauseKind
from libs.common.clock import SystemClock
from libs.common.startmode import StartMode
from libs.common.states import FetchClass, FetchPurpose, FetchState
from services.scheduler.policy.prefetching.prefetch import Prefetch
from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import history_of
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.rounds.loop import RoundLoop
from services.scheduler.rounds.reader import SnapshotReader
from services.scheduler.store import retention, scaling
from tests.integration.scheduler.simulated import SimulatedNode
from tests.integration.scheduler.world import World, digest, summary_of
from tests.support.waiting import eventually

# 66 MiB take 35 s; asked every ten minutes, it is likely to be asked 431 s after the last request.
SLOW_NIC_BYTES_PER_S = 2_000_000
REGULAR = history_of([600.0] * 40)
STATES = "SELECT state FROM prefetches"
DESIRED = "SELECT count(*) FROM fetches WHERE purpose = 'prefetch' AND is_desired"


async def slow_node(world: World, node_id: str = "node-1", **values: int) -> SimulatedNode:
    """Its fetches end when the test says so."""
    node = await world.add_node(node_id, nic_bytes_per_s=SLOW_NIC_BYTES_PER_S, **values)
    node.behaviour.completes_fetches = False
    await world.until_heard(len(world.nodes))
    return node


async def expect(world: World, name: str = "tiny", **values: Any) -> str:
    """A model that was asked 400 s ago, and will be within a minute."""
    values = {"is_keep_alive_auto": True, "slo_ttft_ms": 1000, **values}
    model_id = await world.add_model(name, **values)
    now_s = SystemClock().monotonic_s()
    known = ModelActivity(REGULAR, idle_since_s=now_s - 400.0, restart_s=5.0)
    async with world.database.transaction() as session:
        await scaling.write_activities(session, {model_id: known}, now_s)
    return model_id


def told(node: SimulatedNode) -> list[FetchSpec]:
    """Prefetches in what the fetcher was told last."""
    fetches = () if node.fetcher.accepted is None else node.fetcher.accepted.fetches
    return [fetch for fetch in fetches if fetch.purpose is FetchPurpose.PREFETCH]


async def prefetching(world: World, node: SimulatedNode) -> FetchSpec:
    await eventually(lambda: told(node), what="a prefetch in the desired state")
    await world.until(STATES, "RUNNING")
    return told(node)[0]


async def test_a_node_is_told_of_it_as_a_background_fetch_of_the_models_own_units(
    world: World,
) -> None:
    node = await slow_node(world)
    model_id = await expect(world)

    spec = await prefetching(world, node)

    assert spec.fetch_class is FetchClass.BACKGROUND
    assert spec.manifest_digest == digest("manifest tiny")
    assert list(spec.unit_digests) == [unit.digest for unit in summary_of("tiny").units]
    assert spec.deadline_ms is not None and 60_000 < spec.deadline_ms <= 209_000
    rows = await world.rows("SELECT tenant, model_id, node_id, fetch_id FROM prefetches")
    assert [tuple(row) for row in rows] == [("tenant-1", model_id, "node-1", spec.fetch_id)]
    assert node.agent.accepted is not None and not node.agent.accepted.workers


async def test_it_ends_when_it_is_complete_and_the_next_start_finds_the_weights(
    world: World,
) -> None:
    node = await slow_node(world)
    model_id = await expect(world)
    await prefetching(world, node)

    node.behaviour.completes_fetches = True

    await world.until(STATES, "COMPLETE")
    await world.until(DESIRED, 0)
    await eventually(lambda: not told(node), what="a desired state without it")
    await world.start_endpoint(model_id)
    await world.until(STATES, "USED")
    metrics = world.leader.controller.rounds.measuring.metrics.render
    await eventually(lambda: 'outcome="used"} 1' in metrics(), what="a count of it")
    assert "complete" not in metrics(), "each is counted once"
    predicted_ms = await world.value("SELECT predicted_ttft_ms FROM cold_starts")
    assert predicted_ms < 5_000, "to launch takes 1.5 s, and to fetch it would take 35 s"


async def test_why_it_failed_is_on_record_and_it_is_not_tried_again(world: World) -> None:
    node = await slow_node(world)
    await expect(world)
    spec = await prefetching(world, node)

    cause = Cause(CauseKind.HOST_CACHE_FULL)
    node.fetcher.change(spec.fetch_id, state=FetchState.FAILED, cause=cause)

    await world.until(STATES, "FAILED")
    await world.until(DESIRED, 0)
    assert "host cache" in await world.value("SELECT detail FROM prefetches")
    await sweeps(world, 5)
    assert await world.value("SELECT count(*) FROM prefetches") == 1


async def test_it_goes_on_under_the_next_leader(world: World) -> None:
    node = await slow_node(world)
    model_id = await expect(world)
    spec = await prefetching(world, node)

    await world.restart_leader()
    await world.until_heard(1)
    await sweeps(world, 5)

    assert [fetch.fetch_id for fetch in told(node)] == [spec.fetch_id]
    assert await world.value("SELECT count(*) FROM prefetches") == 1
    node.behaviour.completes_fetches = True
    await world.until(STATES, "COMPLETE")
    await world.restart_leader()
    await world.until_heard(1)
    await world.start_endpoint(model_id)
    await world.until(STATES, "USED")


async def test_what_the_leader_keeps_is_what_its_rows_say(world: World) -> None:
    node = await slow_node(world)
    await expect(world)
    await prefetching(world, node)

    known, rows = world.leader.controller.rounds.snapshot, await read_anew(world)

    assert known is not None
    assert without_times(known) == without_times(rows)
    (kept,), (read,) = known.prefetches, rows.prefetches
    assert kept.deadline_at_s == pytest.approx(read.deadline_at_s, abs=1.0)
    assert kept.expires_at_s == pytest.approx(read.expires_at_s, abs=1.0)


async def test_an_endpoint_that_starts_meanwhile_overtakes_it(world: World) -> None:
    node = await slow_node(world)
    model_id = await expect(world)
    spec = await prefetching(world, node)

    await world.gateway.submit(model_id, request_id="request-1")
    await world.assigned("request-1")

    await world.until(STATES, "OVERTAKEN")
    await eventually(lambda: not told(node), what="a desired state without it")
    start = await world.value("SELECT id FROM fetches WHERE purpose = 'start'")
    assert start != spec.fetch_id
    assert [fetch.fetch_id for fetch in node.fetcher.specs.values()] == [start]


@pytest.mark.parametrize(
    "change",
    ["state = 'DELETING'", "is_keep_alive_auto = false"],
    ids=["deleted", "with a fixed keep-alive"],
)
async def test_it_ends_with_its_model(world: World, change: str) -> None:
    node = await slow_node(world)
    await expect(world)
    await prefetching(world, node)

    await world.execute(f"UPDATE models SET {change}")

    await world.until(STATES, "UNWANTED")
    await eventually(lambda: not told(node), what="a desired state without it")


async def test_one_that_is_late_is_dropped(world: World) -> None:
    node = await slow_node(world)
    await expect(world)
    await prefetching(world, node)

    await world.leader.kill()
    await world.execute("UPDATE fetches SET deadline_at = now() - interval '1 s'")
    await world.start_leader()

    await world.until(STATES, "LATE")
    await eventually(lambda: not told(node), what="a desired state without it")


async def test_a_model_whose_weights_are_there_is_left_alone(world: World) -> None:
    node = await slow_node(world)
    node.fetcher.cached.update(unit.digest for unit in summary_of("tiny").units)
    await world.until("SELECT count(*) FROM host_cache", 6)

    model_id = await expect(world)
    await eventually(lambda: model_id in looked_at(world), what="a look at the model")

    assert await world.value("SELECT count(*) FROM prefetches") == 0


async def test_rows_of_those_that_ended_long_ago_are_deleted_with_their_fetches(
    world: World,
) -> None:
    node = await slow_node(world)
    await expect(world)
    await prefetching(world, node)
    await world.execute("UPDATE models SET state = 'DELETING'")
    await world.until(STATES, "UNWANTED")
    await world.execute("UPDATE prefetches SET ended_at = now() - interval '2 days'")
    await world.execute("UPDATE models SET updated_at = now() - interval '2 days'")

    async with world.database.transaction() as session:
        models_first = await retention.delete_models(session, 86_400.0, 10)
        deleted = await retention.delete_prefetches(session, 86_400.0, 10)
        models_then = await retention.delete_models(session, 86_400.0, 10)

    assert (models_first, deleted, models_then) == (0, 1, 1)
    assert await world.value("SELECT count(*) FROM fetches") == 0


def looked_at(world: World) -> frozenset[str]:
    snapshot = world.leader.controller.rounds.snapshot
    return frozenset(() if snapshot is None else snapshot.prefetch_looks_s)


async def sweeps(world: World, number: int) -> None:
    """That many more."""
    for _ in range(number):
        rounds = world.leader.controller.rounds
        await eventually(partial(_has_swept_since, rounds, rounds._swept_at_s), what="a sweep")


def _has_swept_since(rounds: RoundLoop, at_s: float) -> bool:
    return rounds._swept_at_s != at_s


async def read_anew(world: World) -> Snapshot:
    reader, now_s = SnapshotReader(world.timing, StartMode.HYDRA), SystemClock().monotonic_s()
    async with world.database.transaction() as session:
        return await reader.load(session, now_s)


def without_times(snapshot: Snapshot) -> list[Prefetch]:
    return [replace(p, deadline_at_s=0.0, expires_at_s=0.0) for p in snapshot.prefetches]
