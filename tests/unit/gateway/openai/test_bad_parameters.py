"""Every parameter that cannot work is named, with what it may be."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.unit.gateway.tiny import model_entry
from tests.unit.gateway.world import GatewayWorld, gateway_world

LONG = [{"role": "user", "content": "x" * 5000}]
HI = [{"role": "user", "content": "hi"}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world() -> AsyncIterator[GatewayWorld]:
    """For requests that leave nothing behind."""
    async with gateway_world() as world:
        yield world


@pytest.mark.parametrize(
    ("parameters", "code", "param"),
    [
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_completion_tokens": -1}, "invalid_value", "max_completion_tokens"),
        ({"max_tokens": "5"}, "invalid_value", "max_tokens"),
        ({"temperature": 2.5}, "invalid_value", "temperature"),
        ({"top_p": 0}, "invalid_value", "top_p"),
        ({"top_k": -2}, "invalid_value", "top_k"),
        ({"top_k": 2**40}, "invalid_value", "top_k"),
        ({"top_k": 2.5}, "invalid_value", "top_k"),
        ({"min_p": 1.1}, "invalid_value", "min_p"),
        ({"min_p": True}, "invalid_value", "min_p"),
        ({"presence_penalty": 2.1}, "invalid_value", "presence_penalty"),
        ({"frequency_penalty": -2.1}, "invalid_value", "frequency_penalty"),
        ({"repetition_penalty": 0}, "invalid_value", "repetition_penalty"),
        ({"logit_bias": [5]}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"5": 101}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"5": True}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"5": "1"}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"a b": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"05": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"258": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {str(n): 1 for n in range(301)}}, "invalid_value", "logit_bias"),
        ({"min_tokens": -1}, "invalid_value", "min_tokens"),
        ({"min_tokens": 6, "max_tokens": 5}, "invalid_value", "min_tokens"),
        ({"min_tokens": 4090}, "invalid_value", "min_tokens"),
        ({"ignore_eos": "yes"}, "invalid_value", "ignore_eos"),
        ({"stop_token_ids": [258]}, "invalid_value", "stop_token_ids"),
        ({"stop_token_ids": [5, -1]}, "invalid_value", "stop_token_ids[1]"),
        ({"stop_token_ids": [5] * 129}, "invalid_value", "stop_token_ids"),
        ({"seed": 2**70}, "invalid_value", "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "invalid_value", "stop"),
        ({"stop": ""}, "invalid_value", "stop"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "pirate", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_value", "messages[0].content"),
        ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "invalid_value", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"tools": [{"type": "function"}]}, "unsupported_parameter", "tools"),
        ({"response_format": {"type": "json_object"}}, "unsupported_parameter", "response_format"),
        ({"echo": True}, "unsupported_parameter", "echo"),
        ({"best_of": 2}, "unsupported_parameter", "best_of"),
        ({"best_of": True}, "unsupported_parameter", "best_of"),
        ({"skip_special_tokens": False}, "unsupported_parameter", "skip_special_tokens"),
        ({"use_beam_search": True}, "unsupported_parameter", "use_beam_search"),
        ({"length_penalty": 0.5}, "unsupported_parameter", "length_penalty"),
        ({"guided_regex": "a+"}, "unsupported_parameter", "guided_regex"),
        ({"chat_template": "{{ x }}"}, "unsupported_parameter", "chat_template"),
        ({"messages": [{**HI[0], "prefix": True}]}, "invalid_value", "messages[0].prefix"),
        ({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]},
         "invalid_value", "messages[0].tool_calls"),
        ({"stream": True, "stream_options": {"x": 1}}, "invalid_value", "stream_options.x"),
        ({"surprise": 1}, "unknown_parameter", "surprise"),
        ({"messages": LONG}, "context_length_exceeded", "messages"),
        ({"max_tokens": 4090}, "context_length_exceeded", "messages"),
    ],
)  # fmt: skip
@pytest.mark.asyncio(loop_scope="module")
async def test_a_bad_parameter_is_named(
    shared_world: GatewayWorld, parameters: dict[str, Any], code: str, param: str
) -> None:
    num_submissions = len(shared_world.scheduler.submissions)

    response = await shared_world.chat(**parameters)

    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (400, code, param)
    assert error["type"] == "invalid_request_error"
    assert len(shared_world.scheduler.submissions) == num_submissions


@pytest.mark.parametrize(
    ("parameters", "limits"),
    [
        ({"temperature": 2.1}, "from 0 to 2"),
        ({"top_p": 1.5}, "greater than 0 and at most 1"),
        ({"top_k": -7}, "from 1 to 2147483647, or 0 or -1 for no limit"),
        ({"min_p": -0.1}, "from 0 to 1"),
        ({"presence_penalty": 3}, "from -2 to 2"),
        ({"frequency_penalty": -3}, "from -2 to 2"),
        ({"repetition_penalty": -1.0}, "greater than 0"),
        ({"logit_bias": {"5": 200}}, "from -100 to 100"),
        ({"logit_bias": {"999": 1}}, "999 is not from 0 to 257"),
        ({"min_tokens": 9, "max_tokens": 5}, "from 0 to 5"),
        ({"stop_token_ids": [999]}, "999 is not from 0 to 257"),
    ],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_a_value_out_of_range_is_told_the_range(
    shared_world: GatewayWorld, parameters: dict[str, Any], limits: str
) -> None:
    response = await shared_world.chat(**parameters)

    assert response.status_code == 400
    assert limits in response.json()["error"]["message"]
    assert next(iter(parameters)) in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "harmless",
    [
        {"n": 1}, {"tools": []}, {"tool_choice": "none"}, {"presence_penalty": 0},
        {"frequency_penalty": 0.0}, {"logit_bias": {}}, {"response_format": {"type": "text"}},
        {"user": "u"}, {"service_tier": "auto"}, {"top_k": -1}, {"max_tokens": None},
        {"stop": None}, {"parallel_tool_calls": True}, {"repetition_penalty": 1},
        {"min_p": None}, {"min_tokens": 0}, {"ignore_eos": False}, {"stop_token_ids": []},
        {"echo": False}, {"best_of": 1}, {"skip_special_tokens": True}, {"suffix": ""},
        {"use_beam_search": False}, {"length_penalty": 1.0}, {"early_stopping": False},
        {"spaces_between_special_tokens": True}, {"include_stop_str_in_output": False},
        {"add_generation_prompt": True}, {"continue_final_message": False},
        {"add_special_tokens": False}, {"priority": 0}, {"chat_template": None},
        {"chat_template_kwargs": {}}, {"guided_json": None}, {"prompt_logprobs": None},
        {"logit_bias": None}, {"store": False}, {"metadata": {}}, {"request_id": "x"},
        {"logprobs": False, "top_logprobs": 0}, {"n": None}, {"bad_words": []},
        {"stream": True, "stream_options": {"continuous_usage_stats": False}},
        {"stream": True, "stream_options": {"include_usage": None}},
        {"messages": [{**HI[0], "id": "m-1", "tool_calls": [], "annotations": [{}]}]},
        {"messages": [{"role": "user", "content": [
            {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]}]},
        {"messages": [*HI, {"role": "assistant", "content": "x", "refusal": "",
                            "reasoning_content": None, "prefix": False}]},
    ],
)  # fmt: skip
@pytest.mark.asyncio(loop_scope="module")
async def test_a_parameter_that_changes_nothing_is_no_error(
    shared_world: GatewayWorld, harmless: dict[str, Any]
) -> None:
    assert (await shared_world.chat(**harmless)).status_code == 200


async def test_a_prompt_longer_than_the_context_is_told_both_numbers() -> None:
    async with gateway_world() as world:
        response = await world.chat("x" * 5000)

        message = response.json()["error"]["message"]
        assert "4096" in message
        assert "5019" in message
        assert message.startswith("This model's maximum context length is 4096 tokens.")


async def test_the_models_own_setting_lowers_the_context() -> None:
    async with gateway_world(entries=[model_entry(max_context_tokens=30)]) as world:
        response = await world.chat("x" * 20)

        assert response.json()["error"]["code"] == "context_length_exceeded"
        assert "30" in response.json()["error"]["message"]


@pytest.mark.parametrize("milliseconds", ["0", "-5", "abc", "1e3", "9" * 30])
async def test_a_bad_timeout_header_is_named(milliseconds: str) -> None:
    async with gateway_world() as world:
        response = await world.client.post(
            "/v1/chat/completions",
            json={"model": "tiny", "messages": HI},
            headers={"X-Request-Timeout-Ms": milliseconds},
        )

        assert response.status_code == 400
        assert response.json()["error"]["param"] == "X-Request-Timeout-Ms"
