from libs.common.states import EndpointState
from services.scheduler.cluster import Endpoint
from services.scheduler.reclaim import endpoints_to_drain
from tests.unit.scheduler.values import cluster, device, endpoint, node, worker


def _on(node_id: str, name: str, bytes_: int, **changes: object) -> Endpoint:
    held = worker(id=f"worker-{name}", endpoint_id=name, node_id=node_id, device_bytes=bytes_)
    return endpoint(id=name, workers=(held,), **{"idle_s": 5.0, **changes})


def _ids(endpoints: tuple[Endpoint, ...]) -> list[str]:
    return [item.id for item in endpoints]


def test_the_longest_idle_endpoint_goes_when_one_is_enough() -> None:
    there = cluster(node(device("a", memory=100, reserved=100)))
    young, old = _on("a", "young", 50, idle_s=2.0), _on("a", "old", 50, idle_s=9.0)

    assert _ids(endpoints_to_drain(there, (young, old), (young, old), 50)) == ["old"]


def test_one_device_must_hold_it_all_so_idle_ones_elsewhere_do_not_add_up() -> None:
    there = cluster(
        node(device("a", memory=100, reserved=60)), node(device("b", memory=100, reserved=60))
    )
    on_a, on_b = _on("a", "on-a", 30), _on("b", "on-b", 30)

    assert endpoints_to_drain(there, (on_a, on_b), (on_a, on_b), 90) == ()


def test_the_device_that_loses_the_fewest_endpoints_is_chosen() -> None:
    there = cluster(
        node(device("a", memory=100, reserved=100)), node(device("b", memory=100, reserved=100))
    )
    small = [_on("a", f"small-{i}", 25) for i in range(4)]
    large = _on("b", "large", 100)

    assert _ids(endpoints_to_drain(there, (*small, large), (*small, large), 75)) == ["large"]


def test_nothing_goes_while_memory_that_is_being_freed_will_do() -> None:
    there = cluster(node(device("a", memory=100, reserved=100)))
    idle = _on("a", "idle", 50)
    leaving = _on("a", "leaving", 50, state=EndpointState.DRAINING)
    dead = _on("a", "dead", 50, state=EndpointState.FAILED)

    assert endpoints_to_drain(there, (idle, leaving), (idle,), 50) == ()
    assert endpoints_to_drain(there, (idle, dead), (idle,), 50) == ()


def test_nothing_goes_when_it_would_not_help() -> None:
    there = cluster(node(device("a", memory=100, reserved=100)))
    idle = _on("a", "idle", 50)

    assert endpoints_to_drain(there, (idle,), (idle,), 60) == ()
