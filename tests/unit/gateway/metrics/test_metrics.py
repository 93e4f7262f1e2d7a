"""What a gateway counts of models is bounded, however many of them are asked for."""

from dataclasses import replace

from libs.common.bus.messages import EngineLoad
from libs.common.testing.bus import FakeClock
from services.gateway.metrics.endpoint_gauges import MAX_ENDPOINTS, busiest
from services.gateway.metrics.metrics import Metrics
from services.gateway.metrics.recent_models import IDLE_S, MAX_MODELS
from services.gateway.store.requests import EndedRow


def ended(model_id: str) -> EndedRow:
    return EndedRow(
        id="req-1",
        tenant="acme",
        model_id=model_id,
        gateway_id="gateway-1",
        api_key_id="key-1",
        attempt=1,
        endpoint_id="ep-1",
        num_prompt_tokens=3,
        max_tokens=9,
        arrived_age_s=2.0,
        assigned_age_s=None,
        remaining_s=600.0,
        num_generated_tokens=5,
        first_token_age_s=1.0,
        ended_age_s=0.0,
        outcome="stop",
        error=None,
        is_slo_met=True,
        slo_ttft_ms=2000,
        slo_tpot_ms=100,
        ttft_ms=1000.0,
        tpot_ms=250.0,
    )


def models_in(text: str) -> set[str]:
    return {
        line.split('model="')[1].split('"')[0] for line in text.splitlines() if "model=" in line
    }


async def test_the_series_of_many_models_are_those_of_the_ones_asked_for_last() -> None:
    metrics = Metrics(FakeClock())
    for i in range(3 * MAX_MODELS):
        metrics.count_ended(ended("model-0"))
        metrics.count_ended(ended(f"model-{i}"))

    models = models_in(text := await metrics.render())
    last = {f"model-{i}" for i in range(2 * MAX_MODELS + 1, 3 * MAX_MODELS)}
    assert models == last | {"model-0"}
    assert 'requests_ended_total{model="model-0",outcome="stop"} 3001' in text


async def test_slos_are_counted_by_reason_and_as_part_of_what_they_allow() -> None:
    """1 s of 2 s to the first token, 250 ms of 100 ms for each other one."""
    metrics = Metrics(FakeClock())
    metrics.count_ended(ended("m"))
    for reason in ("queue", "engine", "queue"):
        metrics.count_ended(replace(ended("m"), is_slo_met=False, slo_miss=reason, tpot_ms=None))
    unknown = replace(ended("m"), is_slo_met=None, ttft_ms=None, tpot_ms=None)
    metrics.count_ended(unknown)

    lines = (await metrics.render()).splitlines()

    assert 'hydra_gateway_slo_met_total{model="m"} 1' in lines
    assert 'hydra_gateway_slo_missed_total{model="m",reason="queue"} 2' in lines
    assert 'hydra_gateway_slo_missed_total{model="m",reason="engine"} 1' in lines
    assert 'hydra_gateway_ttft_slo_ratio_bucket{model="m",le="0.25"} 0' in lines
    assert 'hydra_gateway_ttft_slo_ratio_bucket{model="m",le="0.5"} 4' in lines
    assert 'hydra_gateway_tpot_slo_ratio_sum{model="m"} 2.5' in lines
    assert 'hydra_gateway_tpot_slo_ratio_count{model="m"} 1' in lines


async def test_a_model_that_nobody_has_asked_for_an_hour_has_no_series() -> None:
    clock = FakeClock()
    metrics = Metrics(clock)
    metrics.count_ended(ended("model-a"))
    clock.advance(IDLE_S / 2)
    metrics.count_ended(ended("model-b"))
    clock.advance(IDLE_S / 2 + 1)

    assert models_in(await metrics.render()) == {"model-b"}


def test_of_many_endpoints_the_busiest_are_shown() -> None:
    loads = {
        ("model", f"ep-{i}"): EngineLoad(
            num_running=i, num_waiting=i, kv_used_bytes=0, kv_capacity_bytes=1, step_us=1
        )
        for i in range(2 * MAX_ENDPOINTS)
    }

    shown = {endpoint for _, endpoint in busiest(loads)}

    assert shown == {f"ep-{i}" for i in range(MAX_ENDPOINTS, 2 * MAX_ENDPOINTS)}
