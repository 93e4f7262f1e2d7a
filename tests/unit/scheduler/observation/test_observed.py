from hypothesis import given
from hypothesis import strategies as st

from libs.common.bus.messages import AgentHeartbeat
from libs.common.states import WorkerState
from services.scheduler.observation.heartbeat_log import HeartbeatLog, NodeHeartbeats
from services.scheduler.observation.liveness import LivenessLog
from tests.unit.scheduler.values import agent_heartbeat, observed, worker


def test_an_older_or_repeated_sequence_of_the_same_boot_is_refused() -> None:
    log: NodeHeartbeats[AgentHeartbeat] = NodeHeartbeats()

    accepted = [log.accept(agent_heartbeat("boot-a", n), 0.0) for n in (1, 3, 2, 3, 4)]

    assert accepted == [True, True, False, False, True]


def test_a_boot_that_was_replaced_never_counts_again() -> None:
    log: NodeHeartbeats[AgentHeartbeat] = NodeHeartbeats()
    log.accept(agent_heartbeat("boot-a", 7), 0.0)
    log.accept(agent_heartbeat("boot-b", 1), 0.0)

    assert not log.accept(agent_heartbeat("boot-a", 8), 0.0)
    newest = log.of("node-1")
    assert newest is not None and newest.heartbeat.boot_id == "boot-b"


@given(st.permutations([("boot-a", n) for n in range(1, 5)] + [("boot-b", n) for n in range(1, 5)]))
def test_in_whatever_order_they_come_the_newest_of_the_last_new_boot_is_kept(
    arrivals: list[tuple[str, int]],
) -> None:
    log: NodeHeartbeats[AgentHeartbeat] = NodeHeartbeats()
    for boot_id, sequence in arrivals:
        log.accept(agent_heartbeat(boot_id, sequence), 0.0)

    first, second = dict.fromkeys(boot_id for boot_id, _ in arrivals)
    newest = log.of("node-1")
    assert newest is not None
    assert newest.heartbeat.boot_id == second != first
    assert newest.heartbeat.sequence == 4 or (second, 4) not in arrivals


def test_only_facts_that_matter_wake_the_reconciler() -> None:
    log = HeartbeatLog(LivenessLog(0.0, 2.0))
    busy = observed(WorkerState.READY, num_running=1)

    assert log.accept_agent(agent_heartbeat("boot-a", 1, busy), 1.0)
    more = observed(WorkerState.READY, num_running=2, kv_used_bytes=5)
    assert not log.accept_agent(agent_heartbeat("boot-a", 2, more), 2.0)
    assert log.accept_agent(agent_heartbeat("boot-a", 3, observed(WorkerState.READY)), 3.0)
    assert log.accept_agent(agent_heartbeat("boot-a", 4), 4.0)
    assert not log.accept_agent(agent_heartbeat("boot-a", 3, busy), 5.0)


def test_a_snapshot_does_not_change_while_a_round_looks_at_it() -> None:
    log = HeartbeatLog(LivenessLog(0.0, 2.0))
    log.accept_agent(agent_heartbeat("boot-a", 1, observed(WorkerState.READY)), 1.0)
    snapshot = log.snapshot()

    log.accept_agent(agent_heartbeat("boot-b", 1), 2.0)

    assert snapshot.worker(worker()) is not None
    assert snapshot.liveness.silence_s("agent node-1") == 0.0
    assert log.snapshot().worker(worker()) is None
