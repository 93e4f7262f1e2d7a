"""The header with which a client lowers its deadline."""

import asyncio

import pytest

from services.gateway.errors import InvalidRequest
from services.gateway.generation.job import TIMEOUT_HEADER
from services.gateway.openai.prepare import parse_timeout_s
from tests.unit.gateway.tiny import model_entry, summary_of, tokenizer_files
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
