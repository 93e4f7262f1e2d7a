"""What nodes tell of starts and engines is in rows, once, and in what every leader decides from."""

from datetime import UTC, datetime, timedelta

import pytest

from libs.common.bus.messages import DecodeTime, EngineSpeed, Step
from libs.common.states import WorkerState
from services.scheduler.node_retention import NodeRetention
from services.scheduler.observation.measuring.recorder import MeasurementRecorder
from services.scheduler.observation.measuring.speed_log import SpeedLog
from services.scheduler.policy.prediction.figures import Figures
from services.scheduler.policy.prediction.measurements import MAX_VALUES
from services.scheduler.policy.prediction.quantities import STEPS, MeasurementKey, Quantity
from services.scheduler.retention import Retention
from services.scheduler.store import measurements
from tests.integration.scheduler.simulated import SimulatedNode
from tests.integration.scheduler.world import World
from tests.support.waiting import eventually

TAIL = MeasurementKey(Quantity.TAIL_S, node_id="node-1")
HOP = MeasurementKey(Quantity.HOP_S)
STEP = MeasurementKey(STEPS[1], model_id="model-1")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def step(name: str, start_s: float, end_s: float, detail: str = "") -> Step:
    began, ended = (BEGAN + timedelta(seconds=x) for x in (start_s, end_s))
    return Step(name=name, started_at=began, ended_at=ended, detail=detail)


# Of a standby that could compute after half a second, and a quarter after the last byte.
STEPS_OF_A_START = (
    step("spawn", 0, 0.1, "standby"),
    step("build_engine", 0.2, 0.5),
    step("weights", 0.2, 3),
    step("load", 0.5, 3.25),
)
OF_A_START = {"standby_launch_s": [0.5], "tail_s": [0.25]}


async def values_of(world: World, **ids: str) -> dict[str, list[float]]:
    condition = " AND ".join(f"{column} = :{column}" for column in ids)
    found = await world.rows(
        f'SELECT quantity, "values" FROM measurements WHERE {condition}', **ids
    )
    return {row.quantity: list(row.values) for row in found}


def figures(world: World) -> Figures:
    snapshot = world.leader.controller.rounds.snapshot
    return Figures() if snapshot is None else snapshot.measured


# ------------------------------------------------------------------------ the rows


async def test_values_go_behind_those_that_the_rows_have_and_the_newest_stay(world: World) -> None:
    async with world.database.transaction() as session:
        await measurements.append(session, {TAIL: [1.0], HOP: [0.5, 0.25], STEP: [3.0]})
        await measurements.append(session, {TAIL: [float(i) for i in range(2, MAX_VALUES)]})
        await measurements.append(session, {TAIL: [100.0, 1e-300]})
        shared = await measurements.load_shared(session)
        of_models = await measurements.load_of_models(session, ["model-1", "model-2"])

    newest = (*(float(i) for i in range(2, MAX_VALUES)), 100.0, 1e-300)
    assert shared == {TAIL: newest, HOP: (0.5, 0.25)}
    assert len(newest) == MAX_VALUES
    assert of_models == {STEP: (3.0,)}


async def test_rows_that_this_version_does_not_know_are_passed_over(world: World) -> None:
    await world.execute(
        'INSERT INTO measurements (node_id, quantity, "values")'
        " VALUES ('node-1', 'tail_s', '{1}'), ('node-1', 'warp', '{1}'), ('', 'tail_s', '{1}')"
    )

    async with world.database.transaction() as session:
        assert await measurements.load_shared(session) == {TAIL: (1.0,)}


# ----------------------------------------------------------------------- the starts


async def started(world: World, node: SimulatedNode, name: str, *, num_stages: int = 1) -> str:
    """An endpoint of a new model, whose one worker's node has told of its steps; the model."""
    node.behaviour.readies_workers = False
    model_id = await world.add_model(name, max_pipeline_size=num_stages)
    await world.gateway.submit(model_id, request_id=f"request-{name}")
    endpoint_id = await world.assigned(f"request-{name}")
    of_it = "SELECT id FROM workers WHERE endpoint_id = :id"
    worker_id = str(await world.value(of_it, id=endpoint_id))
    await eventually(lambda: worker_id in node.agent.workers, what="the launch")
    node.agent.change(worker_id, state=WorkerState.READY, steps=STEPS_OF_A_START)
    await world.until_state(endpoint_id, "STANDALONE")
    return model_id


async def test_a_start_is_measured_once_and_a_new_leader_knows_of_it(world: World) -> None:
    node = await world.add_node("node-1")

    await started(world, node, "a")

    assert await values_of(world, node_id="node-1") == OF_A_START
    await eventually(lambda: figures(world).of_node("node-1").tail_s == 0.25, what="its figures")
    known = figures(world)
    await world.restart_leader()  # its agent still tells of these steps
    await started(world, node, "b")
    assert await values_of(world, node_id="node-1") == {k: 2 * v for k, v in OF_A_START.items()}
    await eventually(lambda: figures(world).nodes, what="the new leader's figures")
    assert known.nodes != figures(world).nodes


async def test_what_a_leader_knows_is_what_a_new_one_reads(world: World) -> None:
    node = await world.add_node("node-1")
    for name in ("a", "b", "c"):
        await started(world, node, name)
    expected = {k: 3 * v for k, v in OF_A_START.items()}
    assert await values_of(world, node_id="node-1") == expected

    def is_known() -> bool:
        measured = figures(world).of_node("node-1").measured
        return {quantity: list(x.values) for quantity, x in measured.items()} == expected

    await eventually(is_known, what="figures in memory")
    await world.restart_leader()
    await eventually(is_known, what="figures in the new leader's memory")


async def test_measurements_that_cannot_be_written_cost_no_start(world: World) -> None:
    node = await world.add_node("node-1")
    await world.execute("ALTER TABLE measurements ADD CONSTRAINT never CHECK (false)")

    await started(world, node, "a")

    assert await values_of(world, node_id="node-1") == {}


# ----------------------------------------------------------------------- the speeds


async def told_speed(world: World, node: SimulatedNode, model_id: str, **changes: object) -> None:
    of_it = "SELECT w.id FROM workers w JOIN endpoints e ON e.id = w.endpoint_id"
    worker_id = str(await world.value(f"{of_it} WHERE e.model_id = :id", id=model_id))
    node.agent.change(worker_id, **changes)


async def test_a_models_speed_is_measured_and_read_again_with_the_model(world: World) -> None:
    node = await world.add_node("node-1")
    world.leader.controller.rounds.measuring = MeasurementRecorder(speeds=SpeedLog(0.05))
    model_id = await started(world, node, "a")

    speed = EngineSpeed(prefill_us_per_token=500, decode=(DecodeTime(batch=2, mean_us=40_000),))
    await told_speed(world, node, model_id, speed=speed)

    expected = {"prefill_s_per_token": [0.0005], "step_2_s": [0.04]}
    await world.until("SELECT count(*) FROM measurements WHERE model_id <> ''", 2)
    assert await values_of(world, model_id=model_id) == expected
    await world.restart_leader()

    def is_known() -> bool:
        return figures(world).of_model(model_id, 1).step_s(2) == 0.04

    await eventually(is_known, what="figures of the model that runs")


async def test_of_models_that_nobody_asks_for_nothing_is_in_memory(world: World) -> None:
    await world.add_node("node-1")
    await world.execute(
        "INSERT INTO measurements (model_id, quantity, \"values\") VALUES ('quiet', 'step_1_s',"
        " '{1}')"
    )
    await world.restart_leader()
    model_id = await world.add_model("asked")
    await world.start_endpoint(model_id)

    await eventually(lambda: model_id in figures(world).models, what="the model")
    assert "quiet" not in figures(world).models


async def test_a_first_token_is_told_beside_its_prediction_and_its_ratio_measured(
    world: World,
) -> None:
    node = await world.add_node("node-1")
    model_id = await started(world, node, "a")
    # The request had waited a second; 2 s were predicted from then on, after a correction by 1.5.
    await world.execute("UPDATE requests SET arrived_at = :at", at=BEGAN - timedelta(seconds=1))
    await world.execute(
        "UPDATE cold_starts SET started_at = :at, predicted_ttft_ms = 3000,"
        ' plans = \'[{"waited_ms": 1000, "correction": 1.5}]\'',
        at=BEGAN,
    )

    await told_speed(world, node, model_id, steps=(step("first_token", 3, 4),))

    await world.until("SELECT measured_ttft_ms FROM cold_starts", 5000)
    # Twice the prediction, which was 1.5 times what the formula says.
    assert await values_of(world, model_id=model_id) == {"ttft_ratio": [3.0]}
    await eventually(
        lambda: figures(world).of_model(model_id, 1).ttft_ratio == 3.0, what="what was measured"
    )
    metrics = world.leader.controller.rounds.measuring.metrics
    await eventually(lambda: 'ratio_count{mode="hydra"} 1' in metrics.render(), what="the metric")


# -------------------------------------------------------------------- what is kept


async def test_what_was_measured_goes_with_its_model_and_with_its_node(world: World) -> None:
    await world.execute(
        'INSERT INTO measurements (model_id, node_id, quantity, "values")'
        " VALUES ('old', '', 'step_1_s', '{1}'), ('young', '', 'step_1_s', '{1}'),"
        " ('', 'dead', 'tail_s', '{1}'), ('', 'live', 'tail_s', '{1}'), ('', '', 'hop_s', '{1}')"
    )
    old = await world.add_model("old", state="DELETING")
    await world.execute(
        "UPDATE models SET id = 'old', updated_at = now() - interval '40 days' WHERE id = :id",
        id=old,
    )
    await world.execute(
        "INSERT INTO nodes (id, agent_heard_at, fetcher_heard_at) VALUES ('dead',"
        " now() - interval '40 days', now() - interval '40 days'), ('live', now(), now())"
    )
    rounds = world.leader.controller.rounds
    await eventually(lambda: rounds.log.liveness.heard_for_s > 0.1, what="a leader that listens")

    await Retention(rounds.fenced, 30 * 86_400.0, pause_s=0.0).work()
    await NodeRetention(rounds, 30 * 86_400.0, pause_s=0.0, min_listening_s=0.1).work()

    left = await world.rows("SELECT model_id, node_id FROM measurements ORDER BY 1, 2")
    assert [tuple(row) for row in left] == [("", ""), ("", "live"), ("young", "")]


@pytest.mark.parametrize("node_ids", [["dead"], ["dead", "other"]])
async def test_a_forgotten_nodes_figures_leave_the_memory(
    world: World, node_ids: list[str]
) -> None:
    await world.execute(
        "INSERT INTO measurements (node_id, quantity, \"values\") VALUES ('dead', 'tail_s', '{9}')"
    )
    await world.restart_leader()
    await eventually(lambda: "dead" in figures(world).nodes, what="its figures")

    world.leader.controller.rounds.forget_nodes(node_ids)

    assert "dead" not in figures(world).nodes
