"""What models cost and how they kept their SLOs, by rows that are set up by hand."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from libs.common.states import SloMiss
from services.gateway.store.requests import EndedRow, RequestStore
from tests.integration.gateway.conftest import RunningGateway

pytestmark = pytest.mark.usefixtures("scene")

HOUR = "date_trunc('hour', now(), 'UTC')"
# Of the tenant `default`, whose key is an operator's, two models, and one of another tenant. Of
# `big` two live workers with 100 bytes each: ready for 40 s, of which 10 idle, reserved 60 s.
SCENE = f"""
INSERT INTO models (id, tenant, name, source, state, slo_ttft_ms, slo_tpot_ms, keep_alive_s,
    max_pipeline_size, max_queue, max_slots, max_endpoints)
SELECT id, tenant, name, '/m', 'READY', 1000, 100, 1, 1, 1, 1, 1
FROM (VALUES ('m-big', 'default', 'big'), ('m-small', 'default', 'org/small'),
    ('m-other', 'acme', 'other')) AS new (id, tenant, name);
INSERT INTO memory_hours VALUES
    ('default', 'm-small', {HOUR} - interval '3 hours', 1, 2, 3),
    ('default', 'm-small', {HOUR}, 10, 20, 30),
    ('default', 'm-big', {HOUR} - interval '40 hours', 1e6, 1e6, 1e6),
    ('acme', 'm-other', {HOUR}, 5, 5, 5);
INSERT INTO slo_hours (tenant, model_id, hour, num_met, num_queue, num_network) VALUES
    ('default', 'm-small', {HOUR} - interval '3 hours', 7, 0, 1),
    ('default', 'm-small', {HOUR}, 2, 1, 1),
    ('acme', 'm-other', {HOUR}, 1, 0, 0);
INSERT INTO nodes (id) VALUES ('node-1');
INSERT INTO endpoints (id, tenant, model_id, epoch, state, max_slots, num_stages, ready_at,
    idle_since, busy_byte_s)
VALUES ('ep-1', 'default', 'm-big', 1, 'PIPELINED', 1, 2, now() - interval '40 seconds',
    now() - interval '10 seconds', 7);
INSERT INTO workers (id, endpoint_id, node_id, device_index, stage_index, state, spec)
SELECT 'worker-' || i, 'ep-1', 'node-1', 0, i, 'READY', '{{}}' FROM generate_series(1, 2) i;
INSERT INTO reservations (worker_id, node_id, device_index, device_bytes, counted_until)
SELECT 'worker-' || i, 'node-1', 0, 100, now() - interval '60 seconds' FROM generate_series(1, 2) i
"""
GREW = 30 * 200  # byte-seconds that the live workers may hold until a test looks: half a minute

ENDED = EndedRow(
    id="req-1", tenant="default", model_id="m-small", gateway_id="gateway-1", api_key_id="key-1",
    attempt=1, endpoint_id="ep-2", num_prompt_tokens=10, max_tokens=20, arrived_age_s=3.0,
    assigned_age_s=None, remaining_s=100.0, num_generated_tokens=7, first_token_age_s=1.0,
    ended_age_s=0.0, outcome="stop", error=None, is_slo_met=False, slo_ttft_ms=1000,
    slo_tpot_ms=100, ttft_ms=1500.0, tpot_ms=80.0, slo_miss="cold_start",
)  # fmt: skip


@pytest.fixture
async def scene(running: RunningGateway) -> None:
    await execute(running, SCENE)


async def execute(running: RunningGateway, sql: str) -> None:
    async with running.owner.transaction() as session:
        for statement in sql.split(";"):
            await session.execute(text(statement))


async def get(running: RunningGateway, path: str, **params: Any) -> Any:
    response = await running.client.get(f"/api/v1/{path}", params=params)
    assert response.status_code == 200, response.text
    return response.json()


async def tenants_key(running: RunningGateway, tenant: str) -> dict[str, str]:
    created = await running.client.post("/api/v1/api-keys", json={"name": "k", "tenant": tenant})
    return {"Authorization": f"Bearer {created.json()['key']}"}


async def test_usage_of_a_day_has_what_is_counted_and_what_live_workers_hold(
    running: RunningGateway,
) -> None:
    report = await get(running, "usage", tenant="default")

    assert [model["model"] for model in report["models"]] == ["big", "org/small"]
    big, small = report["models"]
    memory = big["memory"]
    assert memory["starting_byte_s"] == pytest.approx(200 * 20)
    assert memory["busy_byte_s"] == pytest.approx(200 * 30)
    assert 200 * 10 <= memory["idle_byte_s"] < 200 * 10 + GREW
    assert memory["total_byte_s"] == pytest.approx(200 * 50 + memory["idle_byte_s"])
    assert big["slo"] == {"num_met": 0, "num_missed": 0, "attainment": None, "missed": {}}
    assert small["memory"] == {
        "starting_byte_s": 11, "busy_byte_s": 22, "idle_byte_s": 33, "total_byte_s": 66,
    }  # fmt: skip
    assert small["slo"] == {
        "num_met": 9, "num_missed": 3, "attainment": 0.75, "missed": {"queue": 1, "network": 2},
    }  # fmt: skip


async def test_usage_begins_with_the_hour_that_is_asked_for(running: RunningGateway) -> None:
    report = await get(running, "usage", tenant="default", hours=1)

    small = next(model for model in report["models"] if model["model_id"] == "m-small")
    assert small["memory"]["total_byte_s"] == 60
    assert small["slo"]["attainment"] == 0.5
    since, until = (datetime.fromisoformat(report[name]) for name in ("since", "until"))
    assert since == since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    assert 3600 <= (until - since).total_seconds() < 7200


async def test_an_operator_sees_everybodys_usage_and_a_tenant_its_own(
    running: RunningGateway,
) -> None:
    everybody = await get(running, "usage", limit=2)
    assert [model["tenant"] for model in everybody["models"]] == ["default", "default"]
    assert len((await get(running, "usage"))["models"]) == 3
    acme = await tenants_key(running, "acme")

    own = (await running.client.get("/api/v1/usage", headers=acme)).json()
    assert [model["model"] for model in own["models"]] == ["other"]
    for path in ("usage", "usage/days", "requests"):
        url = f"/api/v1/{path}?tenant=default"
        assert (await running.client.get(url, headers=acme)).status_code == 403
    assert (await running.client.get("/api/v1/requests", headers=acme)).json() == []


async def test_days_add_what_is_kept_for_ever_to_the_hours_that_are_still_there(
    running: RunningGateway,
) -> None:
    await execute(
        running,
        """
        INSERT INTO usage VALUES ('default', 'm-small', '2020-01-05', 2, 30, 40, 1, 2, 3),
            ('acme', 'm-other', (now() AT TIME ZONE 'UTC')::date, 3, 4, 5, 0, 0, 0)""",
    )

    today = (await get(running, "usage/days", days=1, tenant="acme"))[0]
    assert (today["num_requests"], today["num_generated_tokens"]) == (3, 5)
    assert today["memory"]["total_byte_s"] == 15
    oldest = (await get(running, "usage/days", days=3660))[-1]
    assert (oldest["day"], oldest["model"], oldest["num_requests"]) == (
        "2020-01-05",
        "org/small",
        2,
    )
    assert oldest["memory"]["total_byte_s"] == 6


async def test_a_models_view_has_what_it_cost_and_how_it_kept_its_slo(
    running: RunningGateway,
) -> None:
    await running.gateway.registry.refresh()
    use = (await get(running, "models/org/small"))["usage"]

    assert use["last_hour"]["memory"]["total_byte_s"] == 60
    assert use["last_hour"]["slo"]["attainment"] == 0.5
    assert use["last_day"]["memory"]["total_byte_s"] == 66
    assert use["last_day"]["slo"]["missed"] == {"queue": 1, "network": 2}


async def test_a_models_view_has_what_was_prefetched_for_it_the_newest_first(
    running: RunningGateway,
) -> None:
    await running.gateway.registry.refresh()
    await execute(
        running,
        """
        INSERT INTO fetches (id, node_id, purpose, fetch_class, manifest_digest, unit_digests)
        SELECT 'fetch-' || i, 'node-1', 'prefetch', 'background', 'm', '[]'
        FROM generate_series(1, 13) i;
        INSERT INTO prefetches (id, tenant, model_id, node_id, fetch_id, file_bytes, state, detail,
            started_at, expires_at)
        SELECT 'prefetch-' || i, CASE i WHEN 13 THEN 'acme' ELSE 'default' END, 'm-small',
            'node-1', 'fetch-' || i, i, 'FAILED', 'it was full', now() + i * interval '1 s', now()
        FROM generate_series(1, 13) i""",
    )

    found = (await get(running, "models/org/small"))["prefetches"]

    assert [one["file_bytes"] for one in found] == list(range(12, 2, -1))
    assert {(one["node_id"], one["state"], one["detail"]) for one in found} == {
        ("node-1", "FAILED", "it was full")
    }
    assert (await get(running, "models/big"))["prefetches"] == []


async def test_a_live_endpoint_shows_what_it_has_held_until_now(running: RunningGateway) -> None:
    (endpoint,) = await get(running, "endpoints")

    memory = endpoint["memory"]
    assert memory["starting_byte_s"] == pytest.approx(200 * 20)
    assert memory["busy_byte_s"] == pytest.approx(200 * 30 + 7)
    assert 200 * 10 <= memory["idle_byte_s"] < 200 * 10 + GREW


async def test_requests_are_listed_with_their_margins_and_reasons(running: RunningGateway) -> None:
    met = replace(
        ENDED, id="req-2", arrived_age_s=2.0, is_slo_met=True, slo_miss=None, ttft_ms=250.0
    )
    old = replace(
        ENDED, id="req-3", arrived_age_s=1.0, model_id="m-big", slo_miss="engine",
        slo_ttft_ms=None, slo_tpot_ms=None, ttft_ms=None, tpot_ms=None,
    )  # fmt: skip
    await RequestStore(running.gateway.keys.database).write((), (ENDED, met, old))

    listed = await get(running, "requests")
    assert [request["id"] for request in listed] == ["req-3", "req-2", "req-1"]
    late = listed[-1]
    assert late["ttft"] == {"took_ms": 1500, "slo_ms": 1000, "margin_ms": -500, "ratio": 1.5}
    assert late["tpot"] == {"took_ms": 80, "slo_ms": 100, "margin_ms": 20, "ratio": 0.8}
    assert (late["model"], late["is_slo_met"], late["slo_miss"]) == (
        "org/small", False, "cold_start",
    )  # fmt: skip
    unknown = {"took_ms": None, "slo_ms": None, "margin_ms": None, "ratio": None}
    assert listed[0]["ttft"] == listed[0]["tpot"] == unknown

    async def ids(**params: Any) -> list[str]:
        return [request["id"] for request in await get(running, "requests", **params)]

    assert await ids(missed=True) == ["req-3", "req-1"]
    assert await ids(reason="engine") == ["req-3"]
    assert await ids(model="org/small", missed=True) == ["req-1"]
    assert await ids(model="org/small", limit=1) == ["req-2"]
    assert await ids(tenant="acme") == []
    shown = await get(running, "requests/req-1")
    assert shown["ttft"] == late["ttft"] and shown["slo_miss"] == "cold_start"


async def test_a_missed_slo_is_counted_in_its_hour_once(running: RunningGateway) -> None:
    """Four requests of which one's client left: nobody can tell, so it is not counted."""
    store = RequestStore(running.gateway.keys.database)
    noted = (
        ENDED,
        replace(ENDED, id="req-2", is_slo_met=True, slo_miss=None),
        replace(ENDED, id="req-3", slo_miss="failed", outcome="worker_crashed"),
        replace(ENDED, id="req-4", is_slo_met=None, slo_miss=None, outcome="cancelled"),
    )
    rows = tuple(replace(row, model_id="m-big") for row in noted)
    for _ in range(3):  # a commit whose answer was lost is written again
        await store.write((), rows)

    async with running.owner.transaction() as session:
        names = ", ".join(f"sum(num_{miss.value})" for miss in SloMiss)
        counted = await session.execute(
            text(f"SELECT sum(num_met), {names} FROM slo_hours WHERE model_id = 'm-big'")
        )
        numbers = dict(zip(("met", *SloMiss), counted.one(), strict=True))
    assert {name: int(n) for name, n in numbers.items() if n} == {
        "met": 1, "cold_start": 1, "failed": 1,
    }  # fmt: skip
