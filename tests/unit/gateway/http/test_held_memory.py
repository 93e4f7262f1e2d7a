"""What a request holds while it waits: the ids of its prompt, and nothing else of its body."""

import asyncio
import gc
import json
import tracemalloc
from typing import Any

import pytest

from libs.common.bus.messages import SubmitRefused
from libs.common.reasons import Reason
from tests.support.waiting import eventually
from tests.unit.gateway.tiny import model_entry, summary_of, tokenizer_files
from tests.unit.gateway.world import GatewayWorld, gateway_world

NUM_CHARS = 2**20
ID_BYTES = 4
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_waiting_request_holds_four_bytes_per_token(path: str, is_stream: bool) -> None:
    entry = model_entry(summary=summary_of(tokenizer_files(), max_context_tokens=2**21))
    async with gateway_world(entries=[entry]) as world:
        await _post(world, path, _body("x", is_stream))  # makes what is made once
        world.scheduler.is_assigning = False
        before = await _held_bytes(world, path, _body("x", is_stream))

        held = await _held_bytes(world, path, _body("x" * NUM_CHARS, is_stream))

        assert held - before < 1.1 * ID_BYTES * NUM_CHARS


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_refused_request_leaves_nothing_for_the_garbage_collection(is_stream: bool) -> None:
    path = "/v1/chat/completions"
    entry = model_entry(summary=summary_of(tokenizer_files(), max_context_tokens=2**21))
    async with gateway_world(entries=[entry]) as world:
        world.scheduler.refusal = SubmitRefused(code=Reason.QUEUE_FULL, message="full")
        await _post(world, path, _body("x", is_stream))
        content = _encoded(path, _body("x" * NUM_CHARS, is_stream))
        gc.collect()

        gc.disable()
        tracemalloc.start()
        await world.client.post(path, content=content, headers=JSON)
        left, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        gc.enable()

        assert left < NUM_CHARS / 4


def _body(text: str, is_stream: bool) -> dict[str, Any]:
    return {"model": "tiny", "stream": is_stream, "max_tokens": 1, "text": text}


async def _post(world: GatewayWorld, path: str, body: dict[str, Any]) -> None:
    await world.client.post(path, content=_encoded(path, body), headers=JSON)


def _encoded(path: str, body: dict[str, Any]) -> bytes:
    text = body.pop("text")
    is_chat = "chat" in path
    prompt = {"messages": [{"role": "user", "content": text}]} if is_chat else {"prompt": text}
    return json.dumps({**body, **prompt}).encode()


async def _held_bytes(world: GatewayWorld, path: str, body: dict[str, Any]) -> int:
    """Allocated since the client had the body, once the request waits for the scheduler; then it
    ends."""
    content, num_before = _encoded(path, body), len(world.scheduler.submissions)
    tracemalloc.start()
    task = asyncio.create_task(world.client.post(path, content=content, headers=JSON))
    await eventually(lambda: len(world.scheduler.submissions) > num_before)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    task.cancel()
    await asyncio.wait([task])
    return held
