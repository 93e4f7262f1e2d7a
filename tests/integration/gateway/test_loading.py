"""Pins, preload, unload and automatic keep-alive over HTTP, and the rows that they become."""

from typing import Any

from sqlalchemy import select, update

from libs.common.records.tables import ModelCommandRow, ModelRow
from tests.integration.gateway.conftest import RunningGateway

PATH = "/api/v1/models/tiny"


async def commands(running: RunningGateway) -> list[tuple[str, str, str]]:
    query = select(ModelCommandRow.id, ModelCommandRow.model_id, ModelCommandRow.kind)
    async with running.owner.transaction() as session:
        rows = await session.execute(query.order_by(ModelCommandRow.kind))
        return [(row.id, row.model_id, row.kind) for row in rows]


async def test_what_is_asked_for_is_a_row_that_a_later_one_of_its_kind_replaces(
    running: RunningGateway,
) -> None:
    model_id = await running.register()

    first = await running.client.post(f"{PATH}/preload", json={})
    (asked,) = await commands(running)
    again = await running.client.post(f"{PATH}/preload", json={})
    (renewed,) = await commands(running)
    unloaded = await running.client.post(f"{PATH}/unload", json={})

    assert [answer.status_code for answer in (first, again, unloaded)] == [202, 202, 202]
    assert first.json()["name"] == "tiny"
    assert asked[1:] == renewed[1:] == (model_id, "preload")
    assert asked[0] != renewed[0], "who carries out the first one leaves the second"
    assert [kind for *_, kind in await commands(running)] == ["preload", "unload"]


async def test_what_is_asked_for_again_comes_after_what_was_asked_meanwhile(
    running: RunningGateway,
) -> None:
    await running.register()

    for kind in ("preload", "unload", "preload"):
        assert (await running.client.post(f"{PATH}/{kind}", json={})).status_code == 202

    query = select(ModelCommandRow.kind).order_by(ModelCommandRow.created_at)
    async with running.owner.transaction() as session:
        assert list(await session.scalars(query)) == ["unload", "preload"]


async def test_what_cannot_start_is_not_preloaded(running: RunningGateway) -> None:
    unknown = await running.client.post(f"{PATH}/preload", json={})
    body = {"name": "tiny", "source": "/models/tiny"}
    await running.client.post("/api/v1/models", json=body)
    importing = await running.client.post(f"{PATH}/preload", json={})

    assert (unknown.status_code, unknown.headers["x-hydra-reason"]) == (404, "model_not_found")
    assert (importing.status_code, importing.headers["x-hydra-reason"]) == (503, "model_not_ready")
    assert await commands(running) == []


async def test_a_pinned_model_is_unloaded_only_once_it_is_not_pinned(
    running: RunningGateway,
) -> None:
    await running.register()
    assert (await running.client.patch(PATH, json={"min_endpoints": 1})).status_code == 200

    refused = await running.client.post(f"{PATH}/unload", json={})
    await running.client.patch(PATH, json={"min_endpoints": 0})
    accepted = await running.client.post(f"{PATH}/unload", json={})

    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "model_is_pinned")
    assert "min_endpoints to 0" in refused.json()["error"]["message"]
    assert accepted.status_code == 202


async def test_no_more_can_be_kept_than_there_may_be(running: RunningGateway) -> None:
    body = {"name": "large", "source": "/models/tiny", "min_endpoints": 2}
    await running.register()

    answers = [
        await running.client.post("/api/v1/models", json=body),
        await running.client.patch(PATH, json={"min_endpoints": 2}),
    ]
    both = await running.client.patch(PATH, json={"min_endpoints": 2, "max_endpoints": 3})
    lowered = await running.client.patch(PATH, json={"max_endpoints": 1})

    for answer in (*answers, lowered):
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "min_endpoints")
    assert both.json()["min_endpoints"] == 2


async def test_only_operators_pin_and_others_preload_and_unload_their_own(
    running: RunningGateway,
) -> None:
    model_id, client = await running.register(), running.client
    made = await client.post("/api/v1/api-keys", json={"name": "k", "tenant": "acme"})
    acme = {"Authorization": f"Bearer {made.json()['key']}"}
    async with running.owner.transaction() as session:  # it is acme's by now, and pinned
        pinned = {"tenant": "acme", "min_endpoints": 2, "max_endpoints": 4}
        await session.execute(update(ModelRow).where(ModelRow.id == model_id).values(**pinned))
    new = {"name": "new", "source": "/models/tiny", "min_endpoints": 1}

    refused = [
        await client.post("/api/v1/models", json=new, headers=acme),
        await client.patch(PATH, json={"min_endpoints": 3}, headers=acme),
    ]
    allowed = [
        await client.post("/api/v1/models", json=new | {"min_endpoints": 0}, headers=acme),
        await client.patch(PATH, json={"max_slots": 3}, headers=acme),
        await client.patch(PATH, json={"min_endpoints": 0}, headers=acme),
        await client.post(f"{PATH}/preload", json={}, headers=acme),
        await client.post(f"{PATH}/unload", json={}, headers=acme),
    ]

    for answer in refused:
        assert (answer.status_code, answer.json()["error"]["param"]) == (403, "min_endpoints")
        assert "preload" in answer.json()["error"]["message"]
    assert [answer.status_code for answer in allowed] == [202, 200, 200, 202, 202]


async def test_keep_alive_is_a_figure_or_auto(running: RunningGateway) -> None:
    await running.register()
    row = select(ModelRow.is_keep_alive_auto, ModelRow.keep_alive_s)

    async def change(kept: Any) -> tuple[Any, tuple[bool, float]]:
        answer = await running.client.patch(PATH, json={"keep_alive_s": kept})
        async with running.owner.transaction() as session:
            found = (await session.execute(row)).one()
        body = answer.json()
        return body.get("keep_alive_s", body), (found[0], found[1])

    assert await change("auto") == ("auto", (True, 300.0))
    assert await change(7) == (7, (False, 7.0))
    wrong, _ = await change("later")
    assert wrong["error"]["param"] == "keep_alive_s"
    new = {"name": "new", "source": "/models/tiny", "keep_alive_s": "auto"}
    assert (await running.client.post("/api/v1/models", json=new)).json()["keep_alive_s"] == "auto"
