"""What a node is told that fits no message: once, and not again until it is something else."""

import asyncio

import pytest

from libs.common.bus.messages import DesiredReply, NodeDesired
from libs.common.bus.subjects import NODE_DESIRED_AGENT
from libs.common.testing.bus import MAX_PAYLOAD_BYTES, FakeClock, MemoryBroker
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.observation.liveness import LivenessLog
from services.scheduler.observation.timeline import Timeline
from services.scheduler.rounds.desired_sender import DesiredSender, NodeProcess, Role
from tests.support.waiting import eventually
from tests.unit.scheduler.values import agent_heartbeat
from tests.unit.worker.values import worker_spec

NUM_TOO_MANY = MAX_PAYLOAD_BYTES // 32  # digests


def desired(version: int, num_units: int) -> NodeDesired:
    units = tuple(f"{number:064x}" for number in range(num_units))
    worker = worker_spec(unit_digests=units)
    return NodeDesired(node_id="node-1", leader_epoch=1, version=version, workers=(worker,))


async def test_what_fits_no_message_is_tried_once_and_the_next_version_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker, clock = MemoryBroker(), FakeClock()
    log = HeartbeatLog(LivenessLog(0.0, 10.0))
    sender = DesiredSender(broker.bus(), log, Timeline(), clock, 1.0)
    told: list[int] = []

    async def follow(message: NodeDesired) -> DesiredReply:
        told.append(message.version)
        return DesiredReply(accepted_version=message.version)

    await broker.bus().subscribe(NODE_DESIRED_AGENT, "node-1", follow)
    log.accept_agent(agent_heartbeat("boot-a", 1), 1.0)
    observed = log.snapshot()

    for _ in range(5):
        sender.ensure(observed, [desired(1, NUM_TOO_MANY)], {"node-1": 1})
        await asyncio.gather(*sender._tasks.values())
    assert sender.unknown(observed, {"node-1": 1}) == []
    sender.ensure(observed, [desired(2, 10)], {"node-1": 2})

    await eventually(lambda: told == [2])
    assert sum("too much to run" in record.message for record in caplog.records) == 1
    await sender.close()


async def test_one_that_did_not_answer_stands_in_a_line_of_its_own_until_it_does() -> None:
    """As the nodes behind a broken network do, while another one is to start something."""
    broker, clock = MemoryBroker(), FakeClock()
    log = HeartbeatLog(LivenessLog(0.0, 10.0))
    sender = DesiredSender(broker.bus(), log, Timeline(), clock, 1.0)
    log.accept_agent(agent_heartbeat("boot-a", 1), 1.0)
    process = NodeProcess("node-1", Role.AGENT)

    async def tell(version: int) -> None:
        sender.ensure(log.snapshot(), [desired(version, 1)], {"node-1": version})
        await asyncio.gather(*sender._tasks.values())

    assert sender._pace_of(process) is sender._pace
    await tell(1)
    assert sender._pace_of(process) is not sender._pace

    async def follow(message: NodeDesired) -> DesiredReply:
        return DesiredReply(accepted_version=message.version)

    await broker.bus().subscribe(NODE_DESIRED_AGENT, "node-1", follow)
    await tell(2)
    assert sender._pace_of(process) is sender._pace
    await sender.close()
