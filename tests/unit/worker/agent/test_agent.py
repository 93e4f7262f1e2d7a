"""The agent over a bus in memory and processes that the tests play."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.common.bus.messages import (
    GenerateReply,
    Peer,
)
from libs.common.bus.subjects import (
    ENDPOINT_GENERATE,
)
from libs.common.cause_words import words
from libs.common.causes import Cause, CauseKind
from libs.common.errors import BusNoResponders
from libs.common.states import FinishReason, WorkerState
from services.worker.agent.processes.watchdog import WatchdogLimits
from services.worker.frames.dataplane import DataPlaneOptions, Neighbour
from services.worker.frames.frames import (
    ConnectPeers,
    DecodeTime,
    GenerateTokens,
    Ready,
    Registered,
    StartWorker,
    StatsChanged,
    StepTaken,
    TokensProduced,
    WorkerFailed,
)
from tests.unit.worker.agent.nodes import DEVICES, Node
from tests.unit.worker.values import generate, worker_spec

NO_WEIGHTS = Cause.of(CauseKind.WEIGHTS_UNAVAILABLE, detail="the stored bytes do not match")


@pytest.fixture
def limits() -> WatchdogLimits:
    return WatchdogLimits()


@pytest.fixture
async def node(tmp_path: Path, limits: WatchdogLimits) -> AsyncIterator[Node]:
    node = Node(tmp_path, limits)
    await node.open()
    yield node
    await node.close()


async def test_a_desired_worker_is_launched_and_followed_until_it_is_ready(node: Node) -> None:
    reply = await node.desire(worker_spec(device_index=1))
    assert (reply.accepted_version, reply.refused) == (1, None)
    process = await node.process()
    assert node.launcher.devices["worker-a"] == DEVICES[1]
    start = await process.hear()
    assert isinstance(start, StartWorker)
    assert (start.worker_id, start.unit_digests, start.device) == ("worker-a", ("1" * 64,), "cpu")

    await process.say(StepTaken("import", 10.0, 12.5))
    await process.say(Registered("127.0.0.1:9", "key"))
    observed = await node.until_worker(WorkerState.REGISTERED)
    assert (observed.address, observed.public_key) == ("127.0.0.1:9", "key")
    await process.say(Ready())

    observed = await node.until_worker(WorkerState.READY)
    assert observed.pid == process.pid
    assert [step.name for step in observed.steps] == ["spawn", "import", "ready"]
    assert observed.steps[1].ended_at is not None


async def test_the_same_desired_state_twice_launches_once(node: Node) -> None:
    await node.desire(worker_spec())
    await node.process()
    await node.desire(worker_spec(), version=1)
    assert node.launcher.num_launches == 1


async def test_a_stage_hears_of_its_neighbours_once_when_both_are_known(node: Node) -> None:
    previous = Peer(worker_id="w2", address="tcp://10.0.0.2:1", public_key="p" * 40)
    following = Peer(worker_id="w1", address="tcp://10.0.0.1:1", public_key="n" * 40)
    alone = worker_spec(num_stages=3, stage_index=0)
    await node.desire(alone)
    process = await node.process()
    start = await process.hear()
    assert isinstance(start, StartWorker)
    assert (start.num_stages, start.data_plane) == (3, DataPlaneOptions())

    await node.desire(alone.model_copy(update={"next": following}))
    both = alone.model_copy(update={"previous": previous, "next": following})
    await node.desire(both)
    await node.desire(both.model_copy(update={"is_draining": True}))
    await process.say(Registered("tcp://10.0.0.3:1", "o" * 40))
    await node.desire(alone.model_copy(update={"previous": previous, "next": previous}))

    assert await process.hear() == ConnectPeers(
        Neighbour(2, "tcp://10.0.0.2:1", "p" * 40), Neighbour(1, "tcp://10.0.0.1:1", "n" * 40)
    )
    changed = await process.hear()  # nothing came in between
    assert isinstance(changed, ConnectPeers) and changed.next.address == "tcp://10.0.0.2:1"


async def test_a_deposed_leader_is_not_obeyed(node: Node) -> None:
    await node.desire(worker_spec(), epoch=2)
    process = await node.process()

    reply = await node.desire(version=9, epoch=1)

    assert reply.refused is not None and reply.accepted_version == 1
    assert process.num_stops == 0


async def test_an_undesired_worker_is_stopped_at_once_and_leaves_the_heartbeat(
    node: Node,
) -> None:
    await node.desire(worker_spec())
    process = await node.ready_process()

    await node.desire()

    await node.until(lambda h: not h.workers and h.accepted_version == 2)
    assert process.num_stops == 1


async def test_an_undesired_worker_says_once_more_when_its_steps_ended(node: Node) -> None:
    await node.desire(worker_spec())
    process = await node.process()
    await process.say(StepTaken("import", 10.0, None))
    await node.until(lambda h: any(len(w.steps) == 2 for w in h.workers))

    await node.desire()

    await node.until(lambda h: not h.workers)
    told = [w for heartbeat in node.heartbeats for w in heartbeat.workers]
    ended = next(w for w in told if w.state is WorkerState.STOPPED)
    assert [(step.name, step.ended_at is None) for step in ended.steps] == [
        ("spawn", False),
        ("import", False),
    ]


async def test_a_worker_undesired_while_it_is_launched_is_stopped_when_it_is_there(
    node: Node,
) -> None:
    node.launcher.may_launch.clear()
    await node.desire(worker_spec())
    await node.desire()
    assert [w.state for w in node.agent.heartbeat().workers] == [WorkerState.LAUNCHING]

    node.launcher.may_launch.set()

    await node.until(lambda h: h.accepted_version == 2 and not h.workers)
    assert node.launcher.processes["worker-a"].num_stops >= 1


async def test_a_stopped_worker_id_never_starts_again(node: Node) -> None:
    await node.desire(worker_spec())
    await node.ready_process()
    await node.desire()
    await node.until(lambda h: not h.workers)

    await node.desire(worker_spec())

    await node.until(lambda h: h.accepted_version == 3)
    assert node.launcher.num_launches == 1


async def test_a_missing_worker_goes_on_while_the_scheduler_may_still_learn_of_it(
    node: Node,
) -> None:
    await node.desire(worker_spec())
    await node.ready_process()

    await node.desire(names=False)  # as after the database was restored from an older state
    node.clock.advance(9.9)
    await node.agent.expire()
    await node.desire(worker_spec())
    node.clock.advance(60)
    await node.agent.expire()

    await node.until(lambda h: h.accepted_version == 3)
    assert (await node.until_worker(WorkerState.READY)).pid is not None
    assert node.launcher.num_launches == 1


async def test_a_worker_that_nothing_is_said_of_is_stopped_in_the_end(node: Node) -> None:
    await node.desire(worker_spec())
    await node.ready_process()
    await node.desire(names=False)
    node.clock.advance(5)
    await node.desire(names=False)

    node.clock.advance(5)
    await node.agent.expire()

    await node.until(lambda h: not h.workers)


async def test_a_worker_that_dies_stays_in_the_heartbeat_with_its_cause_until_undesired(
    node: Node,
) -> None:
    await node.desire(worker_spec())
    process = await node.ready_process()
    await process.exit(-9, "Traceback", "MemoryError")

    observed = await node.until_worker(WorkerState.FAILED)

    assert observed.cause is not None
    assert "SIGKILL" in words(observed.cause) and "MemoryError" in words(observed.cause)
    await node.desire(worker_spec())
    assert (await node.until(lambda h: h.accepted_version == 2)).workers[0].state.is_finished
    assert node.launcher.num_launches == 1
    await node.desire()
    await node.until(lambda h: not h.workers)


async def test_what_a_worker_says_before_it_gives_up_is_its_cause(node: Node) -> None:
    await node.desire(worker_spec())
    process = await node.process()
    await process.say(WorkerFailed(NO_WEIGHTS))
    await process.exit(1)
    observed = await node.until_worker(WorkerState.FAILED)
    assert observed.cause == NO_WEIGHTS


async def test_a_worker_that_cannot_be_started_has_failed(node: Node) -> None:
    node.launcher.refusal = "no process left"
    await node.desire(worker_spec())
    assert (await node.until_worker(WorkerState.FAILED)).cause == Cause.of(
        CauseKind.LAUNCH_FAILED, detail="no process left"
    )
    await node.desire()
    await node.until(lambda h: not h.workers)


async def test_a_worker_whose_end_cannot_be_waited_for_is_stopped_and_has_failed(
    node: Node,
) -> None:
    await node.desire(worker_spec())
    process = await node.ready_process()

    process.lose_watch(OSError("no descriptor is left"))

    failed = await node.until_worker(WorkerState.FAILED)
    assert failed.cause is not None and "no descriptor is left" in words(failed.cause)
    assert process.num_stops == 1


async def test_a_worker_for_a_device_that_is_not_there_has_failed(node: Node) -> None:
    await node.desire(worker_spec(device_index=2))
    observed = await node.until_worker(WorkerState.FAILED)
    assert observed.cause is not None and "no device 2" in words(observed.cause)
    await node.desire()
    await node.until(lambda h: not h.workers)


@pytest.mark.parametrize("limits", [WatchdogLimits(start_grace_s=0.05)])
async def test_a_start_that_hangs_is_ended_and_names_the_step(node: Node) -> None:
    await node.desire(worker_spec(start_timeout_ms=50))
    process = await node.process()
    await process.say(StepTaken("spawn", 1.0, 1.5))
    await process.say(StepTaken("weights", 2.0, None))
    observed = await node.until_worker(WorkerState.FAILED)
    assert observed.cause is not None
    assert words(observed.cause) == "not ready within 0.05 s (in step weights)"
    assert process.num_stops == 1


@pytest.mark.parametrize("limits", [WatchdogLimits(silence_s=0.2)])
async def test_a_process_that_says_nothing_any_more_is_ended(node: Node) -> None:
    await node.desire(worker_spec())
    process = await node.process()
    observed = await node.until_worker(WorkerState.FAILED)
    assert observed.cause is not None and "no sign of life" in words(observed.cause)
    assert process.num_stops == 1


@pytest.mark.parametrize("limits", [WatchdogLimits(engine_s=0.2)])
async def test_a_stage_whose_engine_hangs_is_ended_and_says_which_it_was(node: Node) -> None:
    await node.desire(worker_spec(stage_index=1, num_stages=3))
    process = await node.ready_process()
    await process.say(StepTaken("spawn", 1.0, 1.5))
    await process.say(StatsChanged(1, 0, 64, progress=9))
    observed = await node.until_worker(WorkerState.FAILED)
    assert observed.cause is not None
    assert words(observed.cause) == "stage 1: the engine has not moved for 0.2 s"
    assert process.num_stops == 1


async def test_a_worker_that_breaks_the_protocol_is_ended(node: Node) -> None:
    await node.desire(worker_spec())
    process = await node.ready_process()
    await process.say_bytes(b"\x00\x00\x00\x02{}")
    observed = await node.until_worker(WorkerState.FAILED)
    assert observed.cause is not None and "protocol" in words(observed.cause)
    assert process.num_stops >= 1


async def test_a_step_at_an_impossible_time_breaks_the_protocol(node: Node) -> None:
    await node.desire(worker_spec())
    process = await node.ready_process()
    await process.say(StepTaken("import", 1e300, None))
    observed = await node.until_worker(WorkerState.FAILED)
    assert observed.cause is not None and "no wall time" in words(observed.cause)


@pytest.mark.parametrize(
    "stats",
    [
        StatsChanged(0, 0, 0, decode_times=(DecodeTime(3, 5),)),
        StatsChanged(0, 0, 0, decode_times=(DecodeTime(1, 0),)),
        StatsChanged(0, 0, 0, prefill_us_per_token=-1.0),
    ],
)
async def test_a_speed_that_no_engine_has_breaks_the_protocol(
    node: Node, stats: StatsChanged
) -> None:
    await node.desire(worker_spec())
    process = await node.ready_process()
    await process.say(stats)
    observed = await node.until_worker(WorkerState.FAILED)
    assert observed.cause is not None and "speed of no engine" in words(observed.cause)


async def test_a_request_may_come_as_soon_as_the_desired_state_is_accepted(node: Node) -> None:
    await node.desire(worker_spec())
    reply = await node.scheduler.request(ENDPOINT_GENERATE, "endpoint-a", generate(), timeout_s=2)
    assert reply == GenerateReply(result="accepted")
    observed = (await node.until(lambda h: any(w.num_waiting for w in h.workers))).workers[0]
    assert (observed.num_running, observed.num_waiting) == (0, 1)

    process = await node.process()
    assert isinstance(await process.hear(), StartWorker)
    frame = await process.hear()
    assert isinstance(frame, GenerateTokens) and frame.request_id == "request-a"

    await process.say(StatsChanged(1, 0, 4096, 8192, step_us=50, compute_share=0.5))
    observed = (await node.until(lambda h: h.workers[0].num_running == 1)).workers[0]
    assert (observed.num_waiting, observed.kv_used_bytes) == (0, 4096)
    assert (observed.kv_capacity_bytes, observed.step_us) == (8192, 50)
    assert (observed.compute_share, observed.compute_demand) == (0.5, None)
    await process.say(TokensProduced("request-a", 1, 0, (5,), None, FinishReason.STOP))
    assert (await asyncio.wait_for(node.tokens.get(), 2)).ids == (5,)
    observed = (await node.until(lambda h: not h.workers[0].num_running)).workers[0]
    assert observed.steps[-1].name == "first_token"


async def test_a_stage_that_is_not_the_entry_listens_to_no_requests(node: Node) -> None:
    await node.desire(worker_spec(stage_index=1, num_stages=2))
    await node.process()
    with pytest.raises(BusNoResponders):
        await node.scheduler.request(ENDPOINT_GENERATE, "endpoint-a", generate(), timeout_s=2)


async def test_a_draining_worker_says_so_and_refuses(node: Node) -> None:
    await node.desire(worker_spec())
    await node.ready_process()
    await node.desire(worker_spec(is_draining=True))
    await node.until_worker(WorkerState.DRAINING)
    reply = await node.scheduler.request(ENDPOINT_GENERATE, "endpoint-a", generate(), timeout_s=2)
    assert reply == GenerateReply(result="draining")


async def test_the_endpoint_falls_silent_when_its_worker_is_gone(node: Node) -> None:
    await node.desire(worker_spec())
    process = await node.ready_process()
    await process.exit(1)
    await node.until_worker(WorkerState.FAILED)
    with pytest.raises(BusNoResponders):
        await node.scheduler.request(ENDPOINT_GENERATE, "endpoint-a", generate(), timeout_s=2)


async def test_heartbeats_count_up_and_pause_while_the_bus_is_away(node: Node) -> None:
    await node.desire(worker_spec())
    await node.process()
    node.broker.is_down = True
    await asyncio.sleep(0)
    before = len(node.heartbeats)
    process = node.launcher.processes["worker-a"]
    await process.say(Registered(None, None))
    await process.say(Ready())
    assert len(node.heartbeats) <= before + 1  # one may have been on its way
    node.broker.is_down = False

    await node.until_worker(WorkerState.READY)

    sequences = [heartbeat.sequence for heartbeat in node.heartbeats]
    assert sequences == sorted(set(sequences))
    assert {heartbeat.boot_id for heartbeat in node.heartbeats} == {"boot-a"}
    assert node.heartbeats[-1].devices == tuple(device.observed for device in DEVICES)


async def test_the_health_file_is_touched(node: Node) -> None:
    await node.until(lambda _heartbeat: True)
    assert node.health_file.exists()


async def test_closing_the_agent_stops_every_worker(node: Node) -> None:
    await node.desire(worker_spec(), worker_spec("worker-b", endpoint_id="endpoint-b"))
    await node.until(lambda h: sum(w.pid is not None for w in h.workers) == 2)

    await node.agent.close()

    assert [process.num_stops for process in node.launcher.processes.values()] == [1, 1]


@pytest.mark.parametrize("limits", [WatchdogLimits(end_s=0.1)])
async def test_closing_the_agent_does_not_wait_for_ever_for_a_process_that_does_not_end(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    node.launcher.obeys_stop = False
    await node.desire(worker_spec())
    process = await node.ready_process()

    await asyncio.wait_for(node.agent.close(), 5)

    assert process.num_stops == 1
    assert "left behind, killed but not ended: worker-a" in caplog.text
