"""A model's number of workers with memory for the whole model: registered, changed, refused."""

from typing import Any

import httpx

from tests.integration.gateway.conftest import RunningGateway

PATH = "/api/v1/models/tiny"
NEW: dict[str, Any] = {"name": "tiny", "source": "/models/tiny", "max_pipeline_size": 3}


async def test_it_is_the_planners_until_it_is_set_and_again_once_it_is_taken_back(
    running: RunningGateway,
) -> None:
    client = running.client
    created = (await client.post("/api/v1/models", json=NEW)).json()
    changed = (await client.patch(PATH, json={"full_memory_workers": 2})).json()
    shown = (await client.get(PATH)).json()
    back = (await client.patch(PATH, json={"full_memory_workers": None})).json()

    numbers = [body["full_memory_workers"] for body in (created, changed, shown, back)]
    assert numbers == [None, 2, 2, None]


async def test_more_than_a_pipeline_may_have_workers_are_refused_with_cause_and_next_step(
    running: RunningGateway,
) -> None:
    client = running.client
    refused = await client.post("/api/v1/models", json={**NEW, "full_memory_workers": 4})
    assert (await client.get("/api/v1/models")).json() == []

    await client.post("/api/v1/models", json={**NEW, "full_memory_workers": 3})
    raised = await client.patch(PATH, json={"full_memory_workers": 4})
    lowered = await client.patch(PATH, json={"max_pipeline_size": 2})
    both = await client.patch(PATH, json={"max_pipeline_size": 2, "full_memory_workers": 2})

    for answer in (refused, raised):
        assert "is 4, more than the 'max_pipeline_size' of 3" in message(answer)
    assert "is 3, more than the 'max_pipeline_size' of 2; lower the one" in message(lowered)
    assert both.status_code == 200


def message(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, "full_memory_workers")
    text: str = error["message"]
    return text
