"""A model that nobody uses answers, goes idle, holds nothing, and answers again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client, Json
from tests.acceptance.observing import live_endpoints, settled, worker_pids
from tests.support.checkpoints import make_tiny_llama
from tests.support.failures import require_same_tokens
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model(client: Client, stack: LocalStack, sources: Path) -> AsyncIterator[str]:
    # In no host cache yet; an answer that is left must not have ended by itself before.
    own_weights = make_tiny_llama(sources / "serving", seed=21, is_endless=True)
    await client.ready("serving", str(own_weights), keep_alive_s=2)
    yield "serving"
    await client.delete("serving")
    await settled(stack, client)


async def test_a_cold_model_answers_then_idles_to_nothing_and_starts_from_the_host_cache(
    client: Client, stack: LocalStack, model: str
) -> None:
    first = await client.stream(model, "hello", max_tokens=20, temperature=0)
    assert first.is_complete, first
    assert first.progress, "a waiting client is told how far its model is"
    assert len(worker_pids(stack)) == 1

    await settled(stack, client)
    assert await live_endpoints(client, model) == []

    second = await client.stream(model, "hello", max_tokens=20, temperature=0)
    require_same_tokens(second.text, first.text)

    async def came_from_cache() -> bool:  # as the fetcher's next heartbeat tells
        newest, oldest = (await client.get(f"/api/v1/cold-starts?model={model}"))[:2]
        assert oldest["bytes_from_cache"] < oldest["weight_bytes"]
        return bool(newest["bytes_from_cache"] == newest["weight_bytes"])

    await eventually(came_from_cache, timeout_s=30, what="the second start from the host cache")


async def test_every_step_of_a_cold_start_is_timed_and_in_order(client: Client, model: str) -> None:
    await client.stream(model, "hello", max_tokens=2)
    newest = (await client.get("/api/v1/cold-starts"))[0]

    async def ready_start() -> Json | None:
        """Two tokens may be out before the endpoint is ready: layers compute as they arrive."""
        found: Json = await client.get(f"/api/v1/cold-starts/{newest['id']}")
        return found if found["ready_at"] is not None else None

    start = await eventually(ready_start, timeout_s=30, what="a cold start that is ready")
    assert isinstance(start, dict)
    steps = start["steps"]
    assert {step["actor"].split("-")[0] for step in steps} >= {"scheduler", "worker"}
    assert all(step["ended_at"] is None or step["started_at"] <= step["ended_at"] for step in steps)
    assert start["started_at"] <= start["ready_at"]


async def test_streaming_and_not_streaming_give_the_same_text(client: Client, model: str) -> None:
    parameters: Json = {"max_tokens": 40, "temperature": 0}
    streamed = await client.stream(model, "same", **parameters)
    whole = (await client.chat(model, "same", **parameters)).json()

    require_same_tokens(streamed.text, whole["choices"][0]["message"]["content"])
    assert streamed.finish_reason == whole["choices"][0]["finish_reason"]
    assert whole["usage"]["completion_tokens"] == 40


async def test_a_seed_fixes_what_sampling_gives(client: Client, model: str) -> None:
    parameters: Json = {"max_tokens": 40, "temperature": 1.0, "top_p": 0.9}
    one = await client.stream(model, "dice", seed=7, **parameters)
    same = await client.stream(model, "dice", seed=7, **parameters)
    other = await client.stream(model, "dice", seed=8, **parameters)
    require_same_tokens(same.text, one.text)
    assert one.text != other.text


async def test_what_a_model_held_and_why_its_requests_were_late_is_on_record(
    client: Client, stack: LocalStack, model: str
) -> None:
    """A target that nothing can keep: a request is late for the start, its weights, or, as a tiny
    model starts in 60 ms, for the scheduler to decide that it starts."""
    await settled(stack, client)
    targets: Json = {"slo": {"ttft_ms": 1, "tpot_ms": 600_000}}
    changed = await client.http.patch(f"/api/v1/models/{model}", json=targets)
    assert changed.status_code == 200
    before = (await client.get(f"/api/v1/models/{model}"))["usage"]["last_day"]

    async def is_known() -> bool:  # by the gateway that is asked
        return bool((await client.get(f"/api/v1/models/{model}"))["slo"]["ttft_ms"] == 1)

    await eventually(is_known, timeout_s=30, what="the new targets")
    await client.stream(model, "late", max_tokens=20)

    async def serving() -> Json | None:
        """Its tokens may be there before it is known as ready: until then it counts as starting."""
        (endpoint,) = await live_endpoints(client, model)
        return endpoint["memory"] if endpoint["ready_at"] is not None else None

    live: Any = await eventually(serving, timeout_s=30, what="the endpoint's readiness")
    assert live["starting_byte_s"] > 0
    await settled(stack, client)

    (late,) = await client.get(f"/api/v1/requests?model={model}&limit=1")
    assert late["slo_miss"] in ("queue", "cold_start", "network")
    assert late["ttft"]["slo_ms"] == 1 and late["ttft"]["margin_ms"] < 0
    ended = await client.get("/api/v1/endpoints?ended=true")
    memory = next(endpoint["memory"] for endpoint in ended if endpoint["model"] == model)
    # As its workers were kept alive for 2 s without a request.
    assert memory["starting_byte_s"] >= live["starting_byte_s"] and memory["idle_byte_s"] > 0
    after = (await client.get(f"/api/v1/models/{model}"))["usage"]["last_day"]
    paid = after["memory"]["total_byte_s"] - before["memory"]["total_byte_s"]
    assert paid == pytest.approx(memory["total_byte_s"])
    assert after["slo"]["num_missed"] == before["slo"]["num_missed"] + 1


async def test_two_models_cold_at_the_same_time_answer_ten_requests_each(
    client: Client, stack: LocalStack, sources: Path
) -> None:
    names = ("twin-a", "twin-b")
    for seed, name in enumerate(names, start=1):
        folder = make_tiny_llama(sources / name, seed=seed)
        await client.ready(name, str(folder), keep_alive_s=1)

    answers = await asyncio.gather(
        *(client.stream(n, f"number {i}", max_tokens=30) for n in names for i in range(10))
    )

    assert all(answer.is_complete for answer in answers), answers
    starts = await client.get("/api/v1/cold-starts")
    assert sorted(s["model"] for s in starts if s["model"] in names) == sorted(names)
    for name in names:
        await client.delete(name)
    await settled(stack, client)


async def test_a_client_that_leaves_frees_its_slot(client: Client, model: str) -> None:
    async with client.http.stream(
        "POST",
        "/v1/chat/completions",
        json={
            "model": model,
            "stream": True,
            "max_tokens": 3000,
            "messages": [{"role": "user", "content": "long"}],
        },
    ) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                break

    request_id = response.headers["x-request-id"]

    async def outcome() -> object:  # rows of warm requests come up to 100 ms late
        found = await client.http.get(f"/api/v1/requests/{request_id}")
        return found.json().get("outcome")

    assert await eventually(outcome, timeout_s=30, what="the request's end") == "cancelled"


async def test_the_openai_client_works_streaming_and_not(client: Client, model: str) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{client.url}/v1", api_key=client.api_key, max_retries=0
    ) as ai:
        messages: Any = [{"role": "user", "content": "hello"}]
        whole = await ai.chat.completions.create(
            model=model,
            messages=messages,
            max_tokens=12,
            temperature=0,
        )
        stream = await ai.chat.completions.create(
            model=model,
            messages=messages,
            max_tokens=12,
            temperature=0,
            stream=True,
        )
        pieces = [c.choices[0].delta.content or "" async for c in stream if c.choices]

        assert "".join(pieces) == whole.choices[0].message.content
        assert model in [m.id async for m in ai.models.list()]


async def test_the_openai_clients_exceptions_say_what_was_wrong(client: Client, model: str) -> None:
    async def ask(api_key: str = client.api_key, model: str = model, **parameters: object) -> None:
        async with openai.AsyncOpenAI(
            base_url=f"{client.url}/v1", api_key=api_key, max_retries=0
        ) as ai:
            messages = [{"role": "user", "content": "hello"}]
            await ai.chat.completions.create(model=model, messages=messages, **parameters)  # type: ignore[call-overload]  # wrong on purpose

    with pytest.raises(openai.AuthenticationError):
        await ask(api_key="wrong")
    with pytest.raises(openai.NotFoundError, match="nowhere"):
        await ask(model="nowhere")
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        await ask(max_tokens=0)


async def test_the_openai_client_meets_a_full_queue_as_a_rate_limit(
    client: Client, stack: LocalStack, tiny: Path
) -> None:
    await client.ready("full", str(tiny), keep_alive_s=1, max_queue=1, max_slots=1, max_endpoints=1)
    messages: Any = [{"role": "user", "content": "hello"}]
    async with openai.AsyncOpenAI(
        base_url=f"{client.url}/v1", api_key=client.api_key, max_retries=0
    ) as ai:
        asked = (
            ai.chat.completions.create(model="full", messages=messages, max_tokens=20)
            for _ in range(12)
        )
        results = await asyncio.gather(*asked, return_exceptions=True)
        refused = [result for result in results if isinstance(result, openai.RateLimitError)]
        answered = [result for result in results if not isinstance(result, BaseException)]
        patient = ai.with_options(max_retries=8)
        again = await patient.chat.completions.create(model="full", messages=messages, max_tokens=2)

    assert refused and answered and len(refused) + len(answered) == 12, results
    for error in refused:
        assert error.code == "queue_full"
        assert int(error.response.headers["retry-after"]) >= 1
    assert again.choices[0].finish_reason
    await client.delete("full")
    await settled(stack, client)


async def test_a_full_queue_is_answered_with_429_and_when_to_come_back(
    client: Client, stack: LocalStack, tiny: Path
) -> None:
    await client.ready("narrow", str(tiny), keep_alive_s=1, max_queue=2, max_slots=1)
    responses = await asyncio.gather(
        *(client.chat("narrow", f"number {i}", max_tokens=20) for i in range(12))
    )

    refused = [r for r in responses if r.status_code == 429]
    assert refused and {r.status_code for r in responses} == {200, 429}
    assert all(int(r.headers["retry-after"]) >= 1 for r in refused)
    assert refused[0].json()["error"]["code"] == "queue_full"
    await client.delete("narrow")
    await settled(stack, client)


async def test_broken_requests_get_a_clear_error_before_anything_starts(
    client: Client, stack: LocalStack, model: str
) -> None:
    async def post(content: bytes) -> httpx.Response:
        return await client.http.post(
            "/v1/chat/completions",
            content=content,
            headers={"content-type": "application/json"},
        )

    await settled(stack, client)
    assert (await post(b'{"model": ')).status_code == 400
    assert (await post(b"\xff\xfe")).status_code == 400
    long = await client.chat(model, "x" * 5000, max_tokens=5)
    assert long.status_code == 400
    message = long.json()["error"]["message"]
    assert "4096" in message and "50" in message, "both the limit and the length are named"
    assert worker_pids(stack) == set(), "a refused request starts nothing"
