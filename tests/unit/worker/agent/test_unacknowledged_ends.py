"""Ends that no gateway acknowledges are told in heartbeats: all of them, however many there are."""

from pathlib import Path

from libs.common.bus.messages import UnacknowledgedEnd
from libs.common.states import FinishReason
from libs.common.testing.bus import FakeClock, MemoryBroker
from services.worker.agent.agent import MAX_UNACKNOWLEDGED, Agent
from services.worker.agent.requests.bridge import Bridge
from services.worker.agent.requests.prompt_assembler import PromptMemory
from services.worker.agent.requests.token_log import UNACKNOWLEDGED_S
from tests.support.devices import cpu
from tests.unit.worker.fakes import FakeLauncher
from tests.unit.worker.values import worker_spec


def agent_with_ends(num_ends: int) -> Agent:
    clock, bus = FakeClock(), MemoryBroker().bus()
    bridge = Bridge(
        worker_spec(),
        bus=bus,
        clock=clock,
        send=lambda _: None,
        load_changed=lambda: None,
        slot_freed=lambda: None,
        prompt_memory=PromptMemory(),
    )
    for number in range(num_ends):
        bridge.log.open(f"request-{number}", 1, 0, deadline_s=1e9)
    for request in bridge.log.unfinished():
        bridge.log.finish(request, FinishReason.CANCELLED, clock.monotonic_s())
    clock.advance(UNACKNOWLEDGED_S)
    agent = Agent(
        node_id="node-a",
        boot_id="boot-a",
        devices=(cpu(0),),
        fetcher_socket=Path("/nowhere"),
        launcher=FakeLauncher(),
        bus=bus,
        clock=clock,
    )
    agent._bridges.add(bridge)
    return agent


def ids_of(ends: tuple[UnacknowledgedEnd, ...]) -> set[str]:
    return {end.request_id for end in ends}


async def test_a_few_are_in_every_heartbeat() -> None:
    agent = agent_with_ends(3)
    for _ in range(2):
        assert ids_of(agent.heartbeat().unacknowledged) == {f"request-{n}" for n in range(3)}


async def test_more_than_a_heartbeat_holds_are_told_in_turn() -> None:
    num_ends = 3 * MAX_UNACKNOWLEDGED + 7
    agent = agent_with_ends(num_ends)

    told = [agent.heartbeat().unacknowledged for _ in range(4)]

    assert {len(ends) for ends in told} == {MAX_UNACKNOWLEDGED}
    assert len(set.union(*map(ids_of, told))) == num_ends
