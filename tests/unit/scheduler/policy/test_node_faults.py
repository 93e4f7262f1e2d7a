from services.scheduler.policy.node_faults import (
    FIRST_DELAY_S,
    MAX_DELAY_S,
    WINDOW_S,
    NodeFault,
    NodeFaults,
)

HERE = frozenset({"node-1"})


def faults(count: int, *, node_ids: frozenset[str] = HERE, at_s: float = 0.0) -> NodeFaults:
    found = NodeFaults()
    for i in range(count):
        found.record(NodeFault("model-1", f"endpoint-{i}", node_ids), at_s)
    return found


def test_the_third_fault_in_a_row_is_the_first_that_costs_waiting() -> None:
    assert not faults(2).must_wait("model-1", HERE, 0.0)
    assert faults(3).must_wait("model-1", HERE, 0.0)
    assert not faults(3).must_wait("model-1", HERE, FIRST_DELAY_S)
    assert faults(4).must_wait("model-1", HERE, FIRST_DELAY_S)
    assert not faults(50).must_wait("model-1", HERE, MAX_DELAY_S)


def test_only_this_model_and_only_the_faulty_nodes_wait() -> None:
    found = faults(3)

    assert not found.must_wait("model-2", HERE, 0.0)
    assert not found.must_wait("model-1", {"node-2"}, 0.0)
    assert found.must_wait("model-1", {"node-2", "node-1"}, 0.0)


def test_a_repeated_round_counts_nothing_twice() -> None:
    found = NodeFaults()
    for _ in range(5):
        found.record(NodeFault("model-1", "endpoint-1", HERE), 0.0)

    assert not found.must_wait("model-1", HERE, 0.0)


def test_a_series_ends_with_a_start_that_succeeds_or_with_time() -> None:
    forgiven, old = faults(3), faults(2)
    forgiven.forgive("model-1")
    old.record(NodeFault("model-1", "endpoint-9", HERE), WINDOW_S + 1.0)

    assert not forgiven.must_wait("model-1", HERE, 0.0)
    assert not old.must_wait("model-1", HERE, WINDOW_S + 1.0)
