"""A desired state that names a target generation: what the agent does with it, and tells."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.common.bus.messages import (
    GenerateReply,
    LayerRange,
    Peer,
    TargetGeneration,
    WorkerObserved,
    WorkerSpec,
)
from libs.common.bus.subjects import ENDPOINT_GENERATE
from libs.common.errors import BusError
from libs.common.states import ConsolidationPhase, MemberRole, WorkerState
from services.worker.agent.processes.watchdog import WatchdogLimits
from services.worker.agent.requests.endpoint_subscriptions import EndpointSubscriptions
from services.worker.frames.consolidation import (
    AbandonConsolidation,
    Consolidate,
    ConsolidationChanged,
    RequestPause,
    SwitchMeasured,
)
from services.worker.frames.frames import (
    ConnectPeers,
    GenerateTokens,
    Ready,
    Registered,
    StartWorker,
    StepTaken,
)
from tests.unit.worker.agent.nodes import Node
from tests.unit.worker.fakes import FakeProcess
from tests.unit.worker.values import generate, worker_spec

PEER = Peer(worker_id="w1", address="tcp://10.0.0.2:1", public_key="p" * 40)
ENTRY = worker_spec(
    num_stages=2, layers=LayerRange(first_layer=0, last_layer=1), previous=PEER, next=PEER
)
TARGET = TargetGeneration(generation=2, unit_digests=("2" * 64,), kv_bytes=2**17, timeout_ms=60_000)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path, WatchdogLimits())
    await node.open()
    yield node
    await node.close()


def with_target(spec: WorkerSpec, target: TargetGeneration | None = TARGET) -> WorkerSpec:
    return spec.model_copy(update={"target": target})


def alone(spec: WorkerSpec) -> WorkerSpec:
    """As the scheduler writes it once it has recorded the switch."""
    return spec.model_copy(
        update={
            "generation": 2,
            "num_stages": 1,
            "layers": LayerRange(first_layer=0, last_layer=2),
            "unit_digests": ("1" * 64, "2" * 64),
            "kv_bytes": 2**17,
            "previous": None,
            "next": None,
            "target": None,
        }
    )


async def entry_process(node: Node, spec: WorkerSpec = ENTRY) -> FakeProcess:
    await node.desire(spec)
    process = await node.process()
    assert isinstance(await process.hear(), StartWorker)
    assert isinstance(await process.hear(), ConnectPeers)
    await process.say(Registered("tcp://10.0.0.1:1", "o" * 40))
    await process.say(Ready())
    await node.until_worker(WorkerState.READY)
    return process


async def worker_that(node: Node, **expected: object) -> WorkerObserved:
    heartbeat = await node.until(
        lambda h: all(getattr(h.workers[0], name) == value for name, value in expected.items())
    )
    return heartbeat.workers[0]


async def test_an_entry_becomes_the_whole_endpoint_in_the_same_process(node: Node) -> None:
    process = await entry_process(node)
    await node.desire(with_target(ENTRY))
    assert await process.hear() == Consolidate(2, 1, ("2" * 64,), 2**17, 60_000)

    await process.say(ConsolidationChanged(2, 1, ConsolidationPhase.LOADING))
    await node.until(lambda h: h.workers[0].consolidation is not None)
    assert node.heartbeats[-1].workers[0].generation == 1
    await process.say(ConsolidationChanged(2, 1, ConsolidationPhase.SWITCHED))
    observed = await worker_that(node, generation=2)
    assert observed.consolidation is not None
    assert observed.consolidation.phase is ConsolidationPhase.SWITCHED

    await node.desire(alone(ENTRY))
    observed = await worker_that(node, consolidation=None)
    assert (observed.generation, observed.state) == (2, WorkerState.READY)
    assert (node.launcher.num_launches, process.num_stops) == (1, 0)


async def test_how_the_switch_went_is_told_on(node: Node) -> None:
    process = await entry_process(node)
    await node.desire(with_target(ENTRY))
    await process.say(ConsolidationChanged(2, 1, ConsolidationPhase.SWITCHED))
    await process.say(SwitchMeasured(2, 1, True, 1, 0, 0, 0.125, 0, (RequestPause("r1", 0.5),)))

    heartbeat = await node.until(lambda h: h.workers[0].switch is not None)

    switch = heartbeat.workers[0].switch
    assert switch is not None
    assert (switch.transfer, switch.drain_ms, switch.pauses[0].pause_ms) == ("recompute", 125, 500)


async def test_a_target_that_came_before_the_worker_serves_is_told_once_it_does(node: Node) -> None:
    process = await entry_process(node, with_target(ENTRY))
    assert isinstance(await process.hear(), Consolidate)


async def test_a_target_that_disappears_is_abandoned(node: Node) -> None:
    process = await entry_process(node)
    await node.desire(with_target(ENTRY))
    await node.desire(ENTRY)
    assert isinstance(await process.hear(), Consolidate)
    assert await process.hear() == AbandonConsolidation(2, 1)


async def test_a_cause_of_the_process_is_told_at_once(node: Node) -> None:
    process = await entry_process(node)
    await node.desire(with_target(ENTRY))
    await process.hear()
    gone = ConsolidationChanged(2, 1, ConsolidationPhase.ABANDONED, "the layers did not come")
    await process.say(gone)
    heartbeat = await node.until(lambda h: h.workers[0].consolidation is not None)
    told = heartbeat.workers[0].consolidation
    assert told is not None and told.why == "the layers did not come"
    assert heartbeat.workers[0].state is WorkerState.READY


async def test_steps_of_a_second_attempt_replace_those_of_the_first(node: Node) -> None:
    process = await entry_process(node)
    for started_at_s in (10.0, 20.0):
        await process.say(StepTaken("consolidation.load", started_at_s, None))
        await process.say(StepTaken("consolidation.load", started_at_s, started_at_s + 1.0))
    heartbeat = await node.until(
        lambda h: any(
            step.name == "consolidation.load" and step.started_at.timestamp() == 20.0
            for step in h.workers[0].steps
        )
    )
    (step,) = (s for s in heartbeat.workers[0].steps if s.name == "consolidation.load")
    assert step.ended_at is not None and step.ended_at.timestamp() == 21.0


async def test_a_follower_that_is_named_as_stopped_has_not_failed(node: Node) -> None:
    follower = worker_spec(
        stage_index=1, num_stages=2, role=MemberRole.FOLLOWER, previous=PEER, next=PEER
    )
    await entry_process(node, follower)
    await node.desire()
    observed = await node.until_worker(WorkerState.STOPPED)
    assert observed.cause is None


FOLLOWER = worker_spec(
    stage_index=1,
    num_stages=2,
    role=MemberRole.FOLLOWER,
    layers=LayerRange(first_layer=1, last_layer=2),
    previous=PEER,
    next=PEER,
)


def separate(spec: WorkerSpec) -> WorkerSpec:
    """As the scheduler writes it once the worker has the whole model, and its pipeline ended."""
    own = {"endpoint_id": "child", "role": MemberRole.ENTRY, "stage_index": 0}
    return alone(spec).model_copy(update=own)


async def test_a_follower_becomes_an_endpoint_of_its_own_in_the_same_process(node: Node) -> None:
    process = await entry_process(node, FOLLOWER)
    await node.desire(with_target(FOLLOWER))
    assert isinstance(await process.hear(), Consolidate)
    await process.say(ConsolidationChanged(2, 1, ConsolidationPhase.SWITCHED))
    await worker_that(node, generation=2, endpoint_id=FOLLOWER.endpoint_id)

    await node.desire(separate(FOLLOWER))

    observed = await worker_that(node, endpoint_id="child", state=WorkerState.READY)
    assert (observed.generation, observed.consolidation) == (2, None)
    asked = generate("request-1", endpoint_id="child")
    reply = await node.scheduler.request(ENDPOINT_GENERATE, "child", asked, timeout_s=2)
    assert isinstance(reply, GenerateReply) and reply.result == "accepted"
    assert isinstance(await process.hear(), GenerateTokens)
    assert (node.launcher.num_launches, process.num_stops) == (1, 0)


async def test_a_worker_that_is_to_serve_is_not_ready_before_requests_reach_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise BusError("endpoint", "no connection")

    process = await entry_process(node, FOLLOWER)
    await node.desire(with_target(FOLLOWER))
    await process.hear()
    await process.say(ConsolidationChanged(2, 1, ConsolidationPhase.SWITCHED))
    await worker_that(node, generation=2)
    monkeypatch.setattr(EndpointSubscriptions, "add", refuse)
    with pytest.raises(BusError):
        await node.desire(separate(FOLLOWER))
    await worker_that(node, endpoint_id="child", state=WorkerState.REGISTERED)

    monkeypatch.undo()
    await node.desire(separate(FOLLOWER))

    await worker_that(node, endpoint_id="child", state=WorkerState.READY)
