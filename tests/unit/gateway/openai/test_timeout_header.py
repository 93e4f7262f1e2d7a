"""The header with which a client lowers its deadline."""

import asyncio
from dataclasses import replace

import pytest

from libs.common.reasons import Reason
from libs.common.testing.objectstore import MemoryObjectStore
from services.gateway.auth import Caller
from services.gateway.errors import InvalidRequest
from services.gateway.generation.job import TIMEOUT_HEADER
from services.gateway.openai.prepare import Arrival, parse_timeout_s
from services.gateway.openai.requests.completion_request import CompletionRequest
from services.gateway.text.text_models import TextModelCache
from services.gateway.text.tokenizer_files import FileStore
from tests.unit.gateway.reasons import not_served
from tests.unit.gateway.tiny import TENANT, model_entry, summary_of, tokenizer_files
from tests.unit.gateway.tokenizers import InProcessTokenizers
from tests.unit.gateway.world import gateway_world


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, 600.0), ("1500", 1.5), ("1", 0.001), ("999999999", 600.0)]
)
def test_the_header_can_only_lower_the_deadline(header: str | None, seconds: float) -> None:
    assert parse_timeout_s(header, 600.0) == seconds


@pytest.mark.parametrize("header", ["", "0", "-1", "1.5", "٣", "1e3", "x" * 99])
def test_a_deadline_that_is_no_number_is_refused(header: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_timeout_s(header, 600.0)


async def test_a_prompt_waits_for_its_turn_until_the_deadline_and_no_longer() -> None:
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    files = tokenizer_files(endless)
    entries = [model_entry(summary=summary_of(files))]
    async with gateway_world(entries=entries, files=files) as world:
        world.client.headers[TIMEOUT_HEADER] = "200"  # less than the CPU second of a render

        responses = await asyncio.gather(world.chat(), world.chat())

        assert [response.status_code for response in responses] == [504, 504]


class _SilentObjectStore(MemoryObjectStore):
    async def get(self, key: str, *, max_bytes: int) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("nothing ends this wait")


async def test_a_tokenizer_is_waited_for_until_the_deadline_and_no_longer() -> None:
    async with gateway_world() as world:
        files = FileStore(_SilentObjectStore(), None, 2**20)
        texts = TextModelCache(files, InProcessTokenizers(), 2**20)
        preparer = replace(world.gateway.preparer, texts=texts)
        limits = world.gateway.tenant_limits
        caller = Caller(TENANT, "key-1")
        now_s = preparer.clock.monotonic_s()
        request = CompletionRequest.model_validate({"model": "tiny", "prompt": "hello"})

        with limits.admitted(TENANT) as held, not_served(Reason.DEADLINE_EXCEEDED):
            await preparer.prepare_completion(
                request, Arrival("request-1", caller, now_s, "100", held)
            )
