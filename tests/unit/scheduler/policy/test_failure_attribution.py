import pytest

from services.scheduler.policy.cluster import Worker
from services.scheduler.policy.diagnosis import Failing, Finding, Gone, Unknown
from services.scheduler.policy.failure_attribution import EchoWatch, RootCause, find_root
from tests.unit.scheduler.values import worker

RING = tuple(worker(id=f"w-{i}", stage_index=i, node_id=f"node-{i}") for i in range(4))
KILLED = Gone("worker w-2 on node node-2: killed by signal 9")


def echo(stage: int, lost: int) -> Gone:
    return Gone(f"worker w-{stage} on node n: stage {stage} lost its neighbour stage {lost}: gone")


def root_of(*findings: Finding, workers: tuple[Worker, ...] = RING) -> RootCause | None:
    return find_root(workers, findings)


def test_the_process_that_ended_is_named_before_the_neighbours_that_noticed() -> None:
    assert root_of(echo(0, 1), echo(1, 2), KILLED, echo(3, 2)) == RootCause(
        KILLED.cause or "", guilty_id="w-2"
    )
    fetch = Failing("the fetch failed", is_node_fault=True)
    assert root_of(echo(0, 3), Unknown(), Unknown(), fetch) == RootCause(
        "the fetch failed", is_node_fault=True, guilty_id="w-3"
    )


def test_a_chain_of_echoes_leads_to_the_stage_that_says_nothing() -> None:
    root = root_of(echo(0, 1), echo(1, 2), Unknown(), echo(3, 2))

    assert root is not None and root.guilty_id == "w-2" and not root.is_certain
    assert "w-2 on node node-2 hangs" in root.cause


def test_a_silent_stage_is_its_nodes_fault_when_the_node_is_quiet_too() -> None:
    findings = (echo(0, 1), echo(1, 2), Unknown(), echo(3, 2))

    root = find_root(RING, findings, quiet_nodes={"node-2"})
    other = find_root(RING, findings, quiet_nodes={"node-1"})

    assert root is not None and root.is_node_fault and root.guilty_id == "w-2"
    assert "node node-2 with worker w-2 is silent" in root.cause
    assert other is not None and not other.is_node_fault


def test_a_worker_without_weights_waits_for_its_fetcher_to_say_why() -> None:
    died = Gone("worker w-1 on node node-1: the weights cannot be had: no room")

    root = root_of(echo(0, 1), died, echo(2, 1), Unknown())

    assert root == RootCause(died.cause or "", guilty_id="w-1", is_certain=False)
    fetch = Gone("the fetch for w-1 failed: no room", is_node_fault=True)
    assert root_of(echo(0, 1), fetch, echo(2, 1), Unknown()) == RootCause(
        fetch.cause or "", is_node_fault=True, guilty_id="w-1"
    )


def test_two_stages_that_lost_each_other_blame_nobody() -> None:
    root = root_of(Unknown(), echo(1, 2), echo(2, 1), Unknown())

    assert root is not None and root.guilty_id is None and not root.is_certain


@pytest.mark.parametrize(
    "felt", ["the next stage took nothing for 9 ms", "stage 1 was not linked within 9 s"]
)
def test_who_waits_in_vain_for_another_stage_is_not_the_root(felt: str) -> None:
    assert root_of(Gone(felt), Unknown(), KILLED, Unknown()) == RootCause(
        KILLED.cause or "", guilty_id="w-2"
    )
    alone = root_of(Gone(felt), Unknown(), Unknown(), Unknown())
    assert alone is not None and alone.guilty_id is None


def test_an_echo_that_names_nobody_is_still_a_cause_but_nobodys_own() -> None:
    root = root_of(Gone("it lost its neighbour"), workers=RING[:1])

    assert root is not None and root.guilty_id is None
    assert root.cause == "its stages lost each other: it lost its neighbour"


def test_a_worker_that_ended_as_asked_is_no_failure() -> None:
    assert root_of(Gone(None), Unknown(), workers=RING[:2]) is None


def test_echoes_wait_for_the_root_but_not_for_ever_and_a_certain_root_does_not_wait() -> None:
    watch, uncertain = EchoWatch(1.0), RootCause("echo", is_certain=False)

    assert watch.may_change("endpoint", uncertain, 10.0)
    assert watch.may_change("endpoint", uncertain, 10.9)
    assert not watch.may_change("endpoint", uncertain, 11.0)
    assert not watch.may_change("other", RootCause("killed"), 11.0)

    watch.keep_only(set())
    assert watch.may_change("endpoint", uncertain, 12.0), "a new count"
