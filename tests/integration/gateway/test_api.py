"""The project's own API over real Postgres: models, keys, and what can be observed."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from libs.common.bus.messages import ModelsChanged
from libs.common.bus.subjects import MODELS_CHANGED
from libs.common.records.tables import (
    ColdStartRow,
    ColdStartStepRow,
    EndpointRow,
    GpuRow,
    ModelRow,
    NodeRow,
    OutboxRow,
    RequestRow,
    ReservationRow,
    UsageRow,
    WorkerRow,
)
from services.gateway.store.requests import EndedRow, RequestStore
from tests.integration.gateway.conftest import RunningGateway
from tests.support.waiting import eventually
from tests.unit.gateway.tiny import ids_of

NEW = {
    "name": "org/demo-1.0",
    "source": "/models/demo",
    "slo": {"ttft_ms": 2000, "tpot_ms": 100},
    "keep_alive_s": 5,
    "max_pipeline_size": 2,
    "max_queue": 7,
}


async def test_a_model_is_registered_listed_changed_and_deleted(running: RunningGateway) -> None:
    client, heard = running.client, []

    async def on_changed(message: ModelsChanged) -> None:
        heard.append(message)

    await running.scheduler.bus.subscribe(MODELS_CHANGED, None, on_changed)

    created = await client.post("/api/v1/models", json=NEW)
    assert created.status_code == 202
    body = created.json()
    assert (body["state"], body["bytes_done"], body["cause"]) == ("IMPORTING", 0, None)
    assert body["slo"] == NEW["slo"]
    assert (body["max_slots"], body["max_endpoints"], body["public"]) == (16, 1, False)
    assert [m["name"] for m in (await client.get("/api/v1/models")).json()] == [NEW["name"]]

    changed = await client.patch(
        f"/api/v1/models/{NEW['name']}", json={"slo": {"tpot_ms": 50}, "keep_alive_s": 0}
    )
    assert changed.json()["slo"] == {"ttft_ms": 2000, "tpot_ms": 50}
    assert changed.json()["keep_alive_s"] == 0
    assert changed.json()["max_queue"] == 7

    unchanged = await client.patch(f"/api/v1/models/{NEW['name']}", json={"public": False})
    assert unchanged.status_code == 200
    refused = await client.patch(f"/api/v1/models/{NEW['name']}", json={"public": True})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "public_is_fixed")

    assert (await client.delete(f"/api/v1/models/{NEW['name']}")).status_code == 202
    assert (await client.get(f"/api/v1/models/{NEW['name']}")).status_code == 404
    assert (await client.post("/api/v1/models", json=NEW)).status_code == 202, "its name is free"
    await eventually(lambda: len(heard) >= 4)
    assert {m.model_ids[0] for m in heard} >= {body["id"]}


TEMPLATE = "{% for m in messages %}Q: {{ m.content }}\nA:{% endfor %}"


async def test_a_model_may_be_given_a_chat_template_and_another_one_or_none_later(
    running: RunningGateway,
) -> None:
    client, chat = (
        running.client,
        {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]},
    )

    created = await client.post(
        "/api/v1/models", json={**NEW, "name": "tiny", "chat_template": TEMPLATE}
    )
    await running.make_ready("tiny")
    assert (await client.post("/v1/chat/completions", json=chat)).status_code == 200
    changed = await client.patch("/api/v1/models/tiny", json={"chat_template": TEMPLATE + "!"})
    assert (await client.post("/v1/chat/completions", json=chat)).status_code == 200
    none = await client.patch("/api/v1/models/tiny", json={"chat_template": None})
    assert (await client.post("/v1/chat/completions", json=chat)).status_code == 200

    digests = [answer.json()["chat_template_digest"] for answer in (created, changed, none)]
    assert len(set(digests)) == 3
    assert digests[-1] is None
    prompts = [message.prompt_ids for message in running.worker.generated]
    assert prompts[:2] == [ids_of("Q: hi\nA:"), ids_of("Q: hi\nA:!")]
    assert prompts[2] == ids_of("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


async def test_a_model_that_is_imported_again_keeps_its_name_and_its_chat_template(
    running: RunningGateway,
) -> None:
    client = running.client
    await client.post("/api/v1/models", json={**NEW, "name": "tiny", "chat_template": TEMPLATE})
    await running.make_ready("tiny")
    async with running.owner.transaction() as session:
        await session.execute(update(ModelRow).values(state="IMPORTING", cause="units/x"))

    await running.gateway.registry.refresh()

    (entry,) = running.gateway.registry.known_of("default")
    assert entry.can_be_asked and entry.chat_template == TEMPLATE
    assert [model["id"] for model in (await client.get("/v1/models")).json()["data"]] == ["tiny"]
    shown = (await client.get("/api/v1/models/tiny")).json()
    assert (shown["state"], shown["cause"]) == ("IMPORTING", "units/x")


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{% for m in messages %}", "syntax error"),
        ("{{ messages[0].content + nothing.at.all }}", "UndefinedError"),
        ("{{ ''.__class__.__mro__ }}", "forbidden|Error"),
        ("{% for i in range(9**9) %}{{ 'a' * 10**7 }}{% endfor %}", "output|memory|CPU|Overflow"),
        ("x" * (2**16 + 1), "at most 65536"),
        ("", "at least 1"),
        ("a\x00b", "NUL"),
    ],
)
async def test_what_cannot_be_a_chat_template_is_refused_with_its_cause(
    running: RunningGateway, template: str, cause: str
) -> None:
    body = {**NEW, "chat_template": template}
    response = await running.client.post("/api/v1/models", json=body)

    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "chat_template")
    assert re.search(cause, error["message"]), error["message"]
    assert (await running.client.get("/api/v1/models")).json() == []


async def test_bad_registrations_are_refused_and_leave_nothing(running: RunningGateway) -> None:
    client = running.client
    bad: list[tuple[dict[str, Any], str]] = [
        ({**NEW, "name": "../etc"}, "name"),
        ({**NEW, "name": "x" * 129}, "name"),
        ({**NEW, "name": "a b"}, "name"),
        ({**NEW, "source": "relative/path"}, "source"),
        ({**NEW, "source": "/a\x00b"}, "source"),
        ({**NEW, "slo": {"ttft_ms": 0}}, "slo.ttft_ms"),
        ({**NEW, "max_pipeline_size": 9}, "max_pipeline_size"),
        ({**NEW, "keep_alive_s": -1}, "keep_alive_s"),
        ({**NEW, "surprise": 1}, "surprise"),
        ({"name": "x"}, "source"),
    ]
    for body, param in bad:
        response = await client.post("/api/v1/models", json=body)
        assert (response.status_code, response.json()["error"]["param"]) == (400, param), body

    assert (await client.get("/api/v1/models")).json() == []
    await client.post("/api/v1/models", json=NEW)
    taken = await client.post("/api/v1/models", json=NEW)
    assert (taken.status_code, taken.json()["error"]["code"]) == (409, "model_exists")


async def test_keys_belong_to_tenants_and_end_when_revoked(running: RunningGateway) -> None:
    client = running.client
    created = (await client.post("/api/v1/api-keys", json={"name": "k", "tenant": "acme"})).json()
    acme = {"Authorization": f"Bearer {created['key']}"}
    await client.post("/api/v1/models", json=NEW)

    assert (await client.get("/api/v1/models", headers=acme)).json() == []
    mine = await client.post("/api/v1/models", json=NEW, headers=acme)
    assert mine.status_code == 202, "names are unique per tenant only"
    listed = (await client.get("/api/v1/api-keys", headers=acme)).json()
    assert [key["id"] for key in listed] == [created["id"]]
    assert "key" not in listed[0]
    other = await client.post("/api/v1/api-keys", json={"name": "k", "tenant": "x"}, headers=acme)
    assert other.status_code == 403

    strange = (await client.post("/api/v1/api-keys", json={"name": "k", "tenant": "x"})).json()
    not_theirs = await client.delete(f"/api/v1/api-keys/{strange['id']}", headers=acme)
    assert not_theirs.status_code == 404, "not this tenant's"
    key_path = f"/api/v1/api-keys/{created['id']}"
    assert (await client.delete(key_path, headers=acme)).status_code == 204
    assert (await client.get("/v1/models", headers=acme)).status_code == 401


async def test_operators_list_and_revoke_the_keys_of_every_tenant(running: RunningGateway) -> None:
    client, path = running.client, "/api/v1/api-keys"
    made = [
        (await client.post(path, json={"name": "k", "tenant": tenant})).json()
        for tenant in ("acme", "bolt")
    ]
    acme = {"Authorization": f"Bearer {made[0]['key']}"}
    assert (await client.get("/v1/models", headers=acme)).status_code == 200

    everybodys = (await client.get(path)).json()
    assert {key["tenant"] for key in everybodys} == {"acme", "bolt", "default"}
    assert not any("key" in key for key in everybodys)
    theirs = (await client.get(path, params={"tenant": "acme"})).json()
    assert [key["id"] for key in theirs] == [made[0]["id"]]
    assert (await client.get(path, params={"tenant": "bolt"}, headers=acme)).status_code == 403

    assert (await client.delete(f"{path}/{made[0]['id']}")).status_code == 204
    assert (await client.get("/v1/models", headers=acme)).status_code == 401
    assert (await client.delete(f"{path}/{made[0]['id']}")).status_code == 404


async def test_a_key_says_when_it_was_used(running: RunningGateway) -> None:
    client, path = running.client, "/api/v1/api-keys"
    made = (await client.post(path, json={"name": "k", "tenant": "acme"})).json()
    assert made["last_used_at"] is None
    acme = {"Authorization": f"Bearer {made['key']}"}
    await client.get("/v1/models", headers=acme)

    await running.gateway.keys.write_uses(running.gateway.key_uses._used)

    (listed,) = (await client.get(path, headers=acme)).json()
    assert listed["last_used_at"] is not None


@pytest.mark.parametrize("kind", ["process_exited", None], ids=["typed", "of an earlier version"])
async def test_a_failure_is_shown_in_words_with_its_kind_where_it_has_one(
    running: RunningGateway, kind: str | None
) -> None:
    model_id = await running.register()
    await _write_history(running, model_id, tenant="default")
    failed = {"cause": "it was killed by SIGKILL", "cause_kind": kind}
    later = ColdStartStepRow.started_at + timedelta(seconds=1)
    async with running.owner.transaction() as session:
        guilty = {"guilty_worker_id": "worker-1", "state": "FAILED"}
        await session.execute(update(EndpointRow).values(**failed, **guilty))
        await session.execute(update(WorkerRow).values(**failed, state="FAILED"))
        await session.execute(update(ColdStartRow).values(**failed))
        await session.execute(update(ColdStartStepRow).values(ended_at=later))

    start = (await running.client.get("/api/v1/cold-starts/cold-1")).json()
    ended = {"ended": True}
    (endpoint,) = (await running.client.get("/api/v1/endpoints", params=ended)).json()

    for shown in (start, endpoint, endpoint["workers"][0]):
        assert failed.items() <= shown.items()
    assert start["guilty_worker_id"] == endpoint["guilty_worker_id"] == "worker-1"
    assert start["critical_path"][-1]["actor"] == "worker-1"


async def test_what_happened_can_be_seen_by_its_own_tenant_only(running: RunningGateway) -> None:
    model_id = await running.register()
    await _write_history(running, model_id, tenant="default")
    client = running.client

    starts = (await client.get("/api/v1/cold-starts", params={"model": "tiny"})).json()
    assert [start["id"] for start in starts] == ["cold-1"]
    detail = (await client.get("/api/v1/cold-starts/cold-1")).json()
    assert [step["name"] for step in detail["steps"]] == ["fetch", "load"]
    assert detail["model"] == "tiny"
    endpoints = (await client.get("/api/v1/endpoints")).json()
    assert endpoints[0]["workers"][0]["node_id"] == "node-1"
    node = (await client.get("/api/v1/nodes")).json()[0]
    device = node["devices"][0]
    assert node["num_standbys"] == 2
    assert (node["agent_invalid"], node["fetcher_invalid"]) == ("workers.pid", None)
    assert (device["memory_bytes"], device["reserved_bytes"], device["free_bytes"]) == (100, 30, 70)
    assert [worker["id"] for worker in node["workers"]] == ["worker-1"]

    key = (await client.post("/api/v1/api-keys", json={"name": "k", "tenant": "acme"})).json()
    acme = {"Authorization": f"Bearer {key['key']}"}
    assert (await client.get("/api/v1/cold-starts", headers=acme)).json() == []
    assert (await client.get("/api/v1/cold-starts/cold-1", headers=acme)).status_code == 404
    assert (await client.get("/api/v1/endpoints", headers=acme)).json() == []
    assert (await client.get("/api/v1/nodes", headers=acme)).json()[0]["workers"] == []


async def _write_history(running: RunningGateway, model_id: str, tenant: str) -> None:
    now = func.now()
    rows: list[tuple[Any, dict[str, Any]]] = [
        (NodeRow, {"id": "node-1", "num_standbys": 2, "agent_invalid": "workers.pid"}),
        (GpuRow, {"node_id": "node-1", "index": 0, "kind": "cpu", "memory_bytes": 100, "cores": 1}),
        (
            EndpointRow,
            {
                "id": "ep-9", "tenant": tenant, "model_id": model_id, "epoch": 1,
                "state": "STARTING", "max_slots": 4, "num_stages": 1,
            },
        ),
        (
            WorkerRow,
            {
                "id": "worker-1", "endpoint_id": "ep-9", "node_id": "node-1", "device_index": 0,
                "stage_index": 0, "state": "READY", "spec": {},
            },
        ),
        (
            ReservationRow,
            {"worker_id": "worker-1", "node_id": "node-1", "device_index": 0, "device_bytes": 30},
        ),
        (
            ColdStartRow,
            {
                "id": "cold-1", "tenant": tenant, "model_id": model_id, "endpoint_id": "ep-9",
                "weight_bytes": 10,
            },
        ),
        *(
            (
                ColdStartStepRow,
                {
                    "cold_start_id": "cold-1", "actor": "worker-1", "name": name,
                    "started_at": now, "ended_at": now,
                },
            )
            for name in ("fetch", "load")
        ),
    ]  # fmt: skip
    for table, values in rows:
        async with running.owner.transaction() as session:
            await session.execute(insert(table).values(values))


async def test_a_requests_row_and_usage_are_written_once(running: RunningGateway) -> None:
    model_id = await running.register()
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}

    answers = [await running.client.post("/v1/chat/completions", json=chat) for _ in range(3)]
    await eventually(lambda: running.gateway.journal.num_kept == 0)
    request_id = answers[0].headers["x-request-id"]
    row = (await running.client.get(f"/api/v1/requests/{request_id}")).json()

    assert (row["state"], row["outcome"], row["is_slo_met"]) == ("ENDED", "stop", True)
    assert row["num_generated_tokens"] == 15
    assert row["arrived_at"] <= row["first_token_at"] <= row["ended_at"]
    async with running.owner.transaction() as session:
        usage = (await session.scalars(select(UsageRow))).one()
        assert await session.scalar(select(func.count()).select_from(RequestRow)) == 3
        assert await session.scalar(select(func.count()).select_from(OutboxRow)) == 0
    assert (usage.model_id, usage.num_requests) == (model_id, 3)
    assert usage.num_generated_tokens == 45


def ended_row(request_id: str = "req-1") -> EndedRow:
    return EndedRow(
        id=request_id, tenant="default", model_id="model-1", gateway_id="gateway-1",
        api_key_id="key-1", attempt=2, endpoint_id="ep-2", num_prompt_tokens=10, max_tokens=20,
        arrived_age_s=3.0, assigned_age_s=None, remaining_s=100.0, num_generated_tokens=7,
        first_token_age_s=1.0, ended_age_s=0.0, outcome="stop", error=None, is_slo_met=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "bad",
    [{"error": "a\x00b"}, {"error": "\ud800"}, {"attempt": 2**63}, {"ended_age_s": 1e300}],
    ids=["NUL", "half a character", "number out of range", "time out of range"],
)
async def test_a_row_that_postgres_refuses_takes_no_other_with_it(
    running: RunningGateway, bad: dict[str, Any]
) -> None:
    journal = running.gateway.journal
    for number in range(8):
        journal.note(replace(ended_row(f"req-{number}"), **(bad if number == 5 else {})))

    await eventually(lambda: journal.num_kept == 0)

    async with running.owner.transaction() as session:
        written = set(await session.scalars(select(RequestRow.id)))
    assert written == {f"req-{number}" for number in range(8)} - {"req-5"}
    assert journal.num_lost == 1
    assert (await running.client.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("state", "outcome"), [("ASSIGNED", None), ("ENDED", "gateway_lost")], ids=["open", "lost"]
)
async def test_an_end_written_twice_counts_once_and_completes_the_schedulers_row(
    running: RunningGateway, state: str, outcome: str | None
) -> None:
    row = ended_row()
    async with running.owner.transaction() as session:
        await session.execute(
            insert(RequestRow).values(
                id="req-1", tenant="default", model_id="model-1", gateway_id="gateway-1",
                attempt=1, state=state, outcome=outcome, endpoint_id="ep-1", num_prompt_tokens=10,
                max_tokens=20, deadline_at=func.now(),
            )
        )  # fmt: skip
    store = RequestStore(running.gateway.keys.database)

    await store.write((), (row,))
    await store.write((), (row,))

    async with running.owner.transaction() as session:
        written = (await session.scalars(select(RequestRow))).one()
        usage = (await session.scalars(select(UsageRow))).one()
    assert (written.state, written.endpoint_id, written.attempt) == ("ENDED", "ep-2", 2)
    assert written.outcome == "stop"
    assert (usage.num_requests, usage.num_generated_tokens) == (1, 7)


async def test_a_change_that_may_repair_a_model_ends_its_back_off(running: RunningGateway) -> None:
    model_id = await running.register()

    async def fail() -> None:
        values = {"num_failed_starts": 5, "backoff_until": func.now() + timedelta(minutes=5)}
        async with running.owner.transaction() as session:
            await session.execute(update(ModelRow).where(ModelRow.id == model_id).values(**values))

    async def num_failed_starts() -> int | None:
        async with running.owner.transaction() as session:
            return await session.scalar(select(ModelRow.num_failed_starts))

    await fail()
    await running.client.patch("/api/v1/models/tiny", json={"keep_alive_s": 5})
    assert await num_failed_starts() == 5
    for change in ({"kv_cache_bytes": None}, {"max_slots": 1}, {"max_context_tokens": 64}):
        await fail()
        changed = await running.client.patch("/api/v1/models/tiny", json=change)
        assert changed.json()["backoff_until"] is None
        assert await num_failed_starts() == 0


async def test_an_engine_that_this_build_lacks_is_refused_when_it_is_asked_for(
    running: RunningGateway,
) -> None:
    body = {"name": "fast", "source": "/models/fast", "engine": "vllm"}

    refused = await running.client.post("/api/v1/models", json=body)
    registered = await running.client.post("/api/v1/models", json=body | {"engine": "stage"})
    changed = await running.client.patch("/api/v1/models/fast", json={"engine": "vllm"})

    for answer in (refused, changed):
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("engine_not_available", "engine")
        assert "no vLLM engine yet" in error["message"]
    assert registered.json()["engine"] == "stage"
    assert (await running.client.get("/api/v1/models/fast")).json()["engine"] == "stage"


async def test_a_kv_cache_that_can_never_work_is_refused(running: RunningGateway) -> None:
    await running.register()

    refused = await running.client.patch("/api/v1/models/tiny", json={"kv_cache_bytes": 1})

    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "kv_cache_bytes"
    unchanged = await running.client.get("/api/v1/models/tiny")
    assert unchanged.json()["kv_cache_bytes"] is None
