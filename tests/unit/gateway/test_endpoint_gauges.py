"""The load of every endpoint that has a route, as `/metrics` shows it."""

from libs.common.bus.messages import EngineLoad, Route, RoutesPublished
from tests.unit.gateway.world import gateway_world

LOAD = EngineLoad(
    num_running=2, num_waiting=1, kv_used_bytes=10, kv_capacity_bytes=12_884_901_889, step_us=1500
)


async def test_loads_are_shown_per_endpoint_and_vanish_with_the_route() -> None:
    async with gateway_world() as world:
        loaded = Route(endpoint_id="ep-1", epoch=1, max_slots=4, load=LOAD)
        unheard = Route(endpoint_id="ep-2", epoch=1, max_slots=4)
        await world.gateway.routes.on_published(
            RoutesPublished(leader_epoch=1, routes={"model-a": (loaded, unheard)})
        )

        assert _samples(await world.gateway.metrics.render()) == {
            'hydra_endpoint_running{model="model-a",endpoint="ep-1"} 2',
            'hydra_endpoint_waiting{model="model-a",endpoint="ep-1"} 1',
            'hydra_endpoint_kv_used_bytes{model="model-a",endpoint="ep-1"} 10',
            'hydra_endpoint_kv_capacity_bytes{model="model-a",endpoint="ep-1"} 12884901889',
            'hydra_endpoint_step_seconds{model="model-a",endpoint="ep-1"} 0.0015',
        }

        await world.gateway.routes.on_published(
            RoutesPublished(leader_epoch=1, routes={"model-a": ()})
        )
        assert _samples(await world.gateway.metrics.render()) == set()


def _samples(text: str) -> set[str]:
    return {line for line in text.splitlines() if line.startswith("hydra_endpoint_")}
