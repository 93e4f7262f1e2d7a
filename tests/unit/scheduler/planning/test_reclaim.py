from libs.common.states import EndpointState
from services.scheduler.policy.cluster import Deployable, Endpoint
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.nodes.node import CachePin, Node
from services.scheduler.policy.planning import reclaim as planning
from services.scheduler.policy.planning.memory import files_bytes
from services.scheduler.policy.planning.reclaim import Reclaim, longest_idle_first
from tests.unit.scheduler.values import (
    NOW_S,
    cluster,
    deployable,
    device,
    endpoint,
    model,
    node,
    summary,
    worker,
)


def reclaim(
    there: Cluster,
    endpoints: tuple[Endpoint, ...],
    idle: tuple[Endpoint, ...],
    wanted: Deployable,
) -> Reclaim | None:
    return planning.reclaim(there, endpoints, longest_idle_first(idle), wanted)


def _on(
    node_id: str, name: str, bytes_: int, *, idle_s: float = 5.0, **changes: object
) -> Endpoint:
    return _on_all((node_id,), name, bytes_, idle_s=idle_s, **changes)


def _on_all(
    node_ids: tuple[str, ...], name: str, bytes_: int, *, idle_s: float = 5.0, **changes: object
) -> Endpoint:
    held = tuple(
        worker(id=f"worker-{name}-{i}", endpoint_id=name, node_id=node_id, device_bytes=bytes_)
        for i, node_id in enumerate(node_ids)
    )
    return endpoint(id=name, workers=held, idle_since_s=NOW_S - idle_s, **changes)


def _full(*node_ids: str, memory: int = 100) -> Cluster:
    return cluster(*(node(device(name, memory=memory, reserved=memory)) for name in node_ids))


def _needing(bytes_: int, max_stages: int = 1) -> Deployable:
    """Four equal layers and nothing else."""
    shape = summary(unit_sizes=(0, *[bytes_ // 4] * 4, 0))
    return deployable(model(kv_cache_bytes=0, max_pipeline_size=max_stages), shape)


def _ids(found: Reclaim | None) -> list[str] | None:
    return None if found is None else [victim.id for victim in found.victims]


def test_the_longest_idle_endpoint_goes_when_one_is_enough() -> None:
    young, old = _on("a", "young", 50, idle_s=2.0), _on("a", "old", 50, idle_s=9.0)

    assert _ids(reclaim(_full("a"), (young, old), (young, old), _needing(48))) == ["old"]


def test_one_device_must_hold_it_all_when_the_model_allows_one_stage() -> None:
    idle = (_on("a", "on-a", 30), _on("b", "on-b", 30))

    assert reclaim(_full("a", "b"), idle, idle, _needing(60)) is None


def test_a_pipeline_takes_room_on_several_devices_at_once() -> None:
    idle = (_on("a", "on-a", 30), _on("b", "on-b", 30), _on("c", "on-c", 30))

    found = reclaim(_full("a", "b", "c"), idle, idle, _needing(60, max_stages=2))

    assert found is not None and len(found.victims) == 2
    taken = {stage.node_id for stage in found.plan.stages}
    assert taken == {victim.workers[0].node_id for victim in found.victims}


def test_one_idle_pipeline_is_enough_for_another_one() -> None:
    idle = (
        _on_all(("a", "b", "c", "d"), "pipeline", 25, idle_s=1.0),
        *(_on(name, f"on-{name}", 25, idle_s=9.0) for name in "abcd"),
    )

    found = reclaim(_full("a", "b", "c", "d"), idle, idle, _needing(100, max_stages=4))

    assert _ids(found) == ["pipeline"]


def test_the_device_that_loses_the_fewest_endpoints_is_chosen() -> None:
    small = [_on("a", f"small-{i}", 25) for i in range(4)]
    large = _on("b", "large", 100)

    found = reclaim(_full("a", "b"), (*small, large), (*small, large), _needing(72))

    assert _ids(found) == ["large"]


def test_of_several_that_must_go_the_longest_idle_ones_do_and_no_more_than_needed() -> None:
    idle = tuple(_on("a", f"idle-{i}", 20, idle_s=float(i)) for i in range(5))

    found = reclaim(_full("a"), idle, idle, _needing(60))

    assert _ids(found) == ["idle-4", "idle-3", "idle-2"]


def test_nothing_goes_while_room_that_is_being_freed_will_do() -> None:
    idle = _on("a", "idle", 50)
    for state in (EndpointState.DRAINING, EndpointState.FAILED):
        leaving = _on("a", "leaving", 50, state=state)

        assert _ids(reclaim(_full("a"), (idle, leaving), (idle,), _needing(48))) == []


def test_nothing_goes_when_it_would_not_help() -> None:
    idle = _on("a", "idle", 50)

    assert reclaim(_full("a"), (idle,), (idle,), _needing(60)) is None


def _caching(node_id: str, capacity: int, *cache_pins: CachePin) -> Node:
    there = device(node_id, memory=10_000)
    return Node(there.node_id, (there,), 1000, 0, False, capacity, cache_pins)


def test_what_an_idle_endpoint_holds_of_the_host_cache_is_room_too() -> None:
    wanted = _needing(400)
    capacity = files_bytes(wanted.summary) + 10
    held = CachePin("worker-idle-0", {"other": 11})
    idle = _on("a", "idle", 50)

    found = reclaim(cluster(_caching("a", capacity, held)), (idle,), (idle,), wanted)

    assert _ids(found) == ["idle"]
