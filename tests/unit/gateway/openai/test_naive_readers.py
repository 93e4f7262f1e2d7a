"""Streams come through to clients whose reading of server-sent events is naive."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.waiting import eventually
from tests.unit.gateway.openai.naive_readers import READERS, strips_each_read
from tests.unit.gateway.stores import KEY
from tests.unit.gateway.world import GatewayWorld, gateway_world

BODY = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}


async def writes_of(
    world: GatewayWorld, progress: bytes = b"comments", **parameters: Any
) -> list[bytes]:
    """What the stream of an answer is written with, one write after the other."""
    writes: list[bytes] = []
    body = json.dumps({**BODY, **parameters}).encode()
    requests = asyncio.Queue[dict[str, Any]]()
    requests.put_nowait({"type": "http.request", "body": body, "more_body": False})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and message["body"]:
            writes.append(message["body"])

    headers = [
        (b"authorization", f"Bearer {KEY}".encode()),
        (b"content-type", b"application/json"),
        (b"x-hydra-progress", progress),
    ]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers,
        "query_string": b"", "state": {},
    }  # fmt: skip
    await world.app(scope, requests.get, send)
    return writes


def answer_of(events: list[Any]) -> tuple[str, Any]:
    choices = [choice for event in events for choice in event["choices"]]
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return text, choices[-1]["finish_reason"]


@pytest.mark.parametrize("read", READERS)
async def test_a_cold_stream_loses_nothing(read: Any) -> None:
    async with gateway_world() as world:
        world.scheduler.is_assigning = False
        writing = asyncio.create_task(writes_of(world))
        await eventually(lambda: len(world.scheduler.listed) > 2)
        await world.scheduler.tell_progress()
        world.scheduler.is_assigning = True
        writes = await writing

        assert sum(write.startswith(b": progress") for write in writes) > 1
        assert answer_of(read(writes)) == ("Hello, wörld!", "stop")


async def test_a_client_may_do_without_comments() -> None:
    async with gateway_world() as world:
        world.scheduler.is_assigning = False
        writing = asyncio.create_task(writes_of(world, b"none"))
        await eventually(lambda: len(world.scheduler.listed) > 2)
        world.scheduler.is_assigning = True

        assert all(write.startswith(b"data: ") for write in await writing)


@pytest.mark.parametrize("read", READERS)
async def test_a_warm_stream_has_no_comment_at_all(read: Any) -> None:
    async with gateway_world() as world:
        await world.warm_route("ep-1")

        writes = await writes_of(world)

        assert all(write.startswith(b"data: ") for write in writes)
        assert answer_of(read(writes)) == ("Hello, wörld!", "stop")


async def test_silence_between_tokens_is_no_progress_unless_a_start_is_waited_for_again() -> None:
    async with gateway_world() as world:
        await world.warm_route("ep-1")
        world.worker.pause_after = 3

        writing = asyncio.create_task(writes_of(world))
        await eventually(lambda: len(world.worker.resends) > 2)
        world.worker.go_on.set()

        assert all(write.startswith(b"data: ") for write in await writing)


async def test_a_comment_in_mid_stream_costs_no_token_either() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3
        writing = asyncio.create_task(writes_of(world))
        await eventually(lambda: len(world.worker.resends) > 0)
        await world.scheduler.tell_progress()
        await eventually(lambda: len(world.worker.resends) > 3)
        world.worker.go_on.set()
        writes = await writing

        assert any(write.startswith(b": progress") for write in writes)
        assert answer_of(strips_each_read(writes)) == ("Hello, wörld!", "stop")
