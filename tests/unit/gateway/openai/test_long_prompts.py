"""Prompts that cannot fit are told so by their size, before anybody tokenizes them."""

import pytest

from tests.unit.gateway.tiny import model_entry
from tests.unit.gateway.world import gateway_world


@pytest.mark.parametrize(
    ("num_chars", "told"),
    [
        (
            4_096,
            "4116 tokens (4115 in the messages, 1 in the completion)",
        ),  # it could have fitted: only its tokens tell
        (100_000, "more in the messages alone"),
        (4_000_000, "more in the messages alone"),
    ],
)
async def test_it_is_told_the_length_of_the_context(num_chars: int, told: str) -> None:
    async with gateway_world() as world:
        error = (await world.chat("x" * num_chars)).json()["error"]

        assert error["code"] == "context_length_exceeded"
        assert error["param"] == "messages"
        expected = "This model's maximum context length is 4096 tokens. However, you requested "
        assert error["message"].startswith(expected + told)


async def test_a_context_that_was_set_counts_and_not_the_checkpoints() -> None:
    async with gateway_world(entries=[model_entry(max_context_tokens=31)]) as world:
        error = (await world.chat("x" * 5_000)).json()["error"]

        assert "maximum context length is 31 tokens" in error["message"]


async def test_a_plain_prompt_is_told_the_same() -> None:
    async with gateway_world() as world:
        body = {"model": "tiny", "prompt": "x" * 100_000}
        error = (await world.client.post("/v1/completions", json=body)).json()["error"]

        assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt")
        assert "more in the prompt alone" in error["message"]
