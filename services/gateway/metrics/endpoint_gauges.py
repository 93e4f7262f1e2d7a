"""What the engines of endpoints do, as far as routes tell; of the busiest where there are many."""

from collections.abc import Callable, Iterator, Mapping
from heapq import nlargest

from libs.common.bus.messages import EngineLoad
from services.gateway.metrics.instruments import Gauge, Gauges

MAX_ENDPOINTS = 1_000  # with five lines each whenever somebody asks for the metrics

_Loads = Mapping[tuple[str, str], EngineLoad]  # by model and endpoint
_GAUGES: tuple[Gauge[EngineLoad], ...] = (
    Gauge("hydra_endpoint_running", "Requests being executed", lambda x: x.num_running),
    Gauge("hydra_endpoint_waiting", "Requests that wait for a slot", lambda x: x.num_waiting),
    Gauge("hydra_endpoint_kv_used_bytes", "KV cache in use", lambda x: x.kv_used_bytes),
    Gauge("hydra_endpoint_kv_capacity_bytes", "KV cache", lambda x: x.kv_capacity_bytes),
    Gauge("hydra_endpoint_step_seconds", "Mean time of a step", lambda x: x.step_us / 1e6),
)


def endpoint_gauges(read: Callable[[], _Loads]) -> Callable[[], Iterator[str]]:
    """Lines of gauges of each endpoint that has a route, by its entry stage."""
    return Gauges(("model", "endpoint"), lambda: busiest(read()), _GAUGES).lines


def busiest(loads: _Loads) -> dict[tuple[str, ...], EngineLoad]:
    """Those with the most requests, `MAX_ENDPOINTS` at most."""
    found = nlargest(MAX_ENDPOINTS, loads.items(), key=lambda item: _num_requests(item[1]))
    return dict(found)


def _num_requests(load: EngineLoad) -> int:
    return load.num_running + load.num_waiting
