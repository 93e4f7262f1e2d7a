from services.scheduler.policy.changes import SWEEP
from services.scheduler.policy.decide import decide
from services.scheduler.policy.decisions import ServeEndpoint, StartEndpoint
from services.scheduler.policy.effects import after
from services.scheduler.policy.failures.node_faults import (
    FIRST_DELAY_S,
    MAX_DELAY_S,
    WINDOW_S,
    FaultSeries,
    NodeFault,
    after_fault,
)
from tests.unit.scheduler.values import NOW_S, device, endpoint, model, open_request, snapshot

HERE = frozenset({"node-1"})


def faults(count: int, *, at_s: float = 0.0) -> FaultSeries:
    found = None
    for i in range(count):
        found = after_fault(found, NodeFault("model-1", f"endpoint-{i}", HERE), at_s)
    assert found is not None
    return found


def test_the_third_fault_in_a_row_is_the_first_that_costs_waiting() -> None:
    assert not faults(2).must_wait(HERE, 0.0)
    assert faults(3).must_wait(HERE, 0.0)
    assert not faults(3).must_wait(HERE, FIRST_DELAY_S)
    assert faults(4).must_wait(HERE, FIRST_DELAY_S)
    assert not faults(50).must_wait(HERE, MAX_DELAY_S)


def test_only_this_model_and_only_the_faulty_nodes_wait() -> None:
    found = faults(3)

    assert started_on("node-1", num_faults=3) == {"model-2"}
    assert started_on("node-2", num_faults=3) == {"model-1", "model-2"}
    assert not found.must_wait({"node-2"}, 0.0)
    assert found.must_wait({"node-2", "node-1"}, 0.0)


def started_on(node_id: str, *, num_faults: int) -> set[str]:
    """Which of two models start on the only node, a moment after that many faults of the first."""
    model_ids = ("model-1", "model-2")
    both = snapshot(
        devices=(device(node_id, memory=10_000),),
        models=(model(id=id_) for id_ in model_ids),
        requests=(open_request(id=f"of-{id_}", model_id=id_) for id_ in model_ids),
        node_faults={"model-1": faults(num_faults, at_s=NOW_S)},
    )
    return {x.model_id for x in decide(both, SWEEP) if isinstance(x, StartEndpoint)}


def test_a_repeated_round_counts_nothing_twice() -> None:
    found = None
    for _ in range(5):
        found = after_fault(found, NodeFault("model-1", "endpoint-1", HERE), 0.0)

    assert found is not None and not found.must_wait(HERE, 0.0)


def test_a_series_ends_with_a_start_that_succeeds_or_with_time() -> None:
    before = snapshot(endpoints=(endpoint(),), node_faults={"model-1": faults(3)})
    served = ServeEndpoint("model-1", "endpoint-1", bytes_from_cache=0, is_idle=True)
    late_s = WINDOW_S + 1.0
    old = after_fault(faults(2), NodeFault("model-1", "endpoint-9", HERE), late_s)

    assert "model-1" not in after(before, [served]).node_faults
    assert not old.must_wait(HERE, late_s)
