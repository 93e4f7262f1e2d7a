"""Values of a body are counted as a parser would find them, wherever its parts are cut."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.gateway.http.json_cost import COST_OF_NAME, COST_OF_OBJECT, JsonCost
from services.gateway.openai.requests.chat_request import ChatRequest
from services.gateway.openai.requests.completion_request import CompletionRequest
from services.gateway.openai.requests.generation_request import GenerationRequest
from tests.unit.gateway.world import gateway_world

VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(), st.sampled_from(['"', "\\", '\\"', "[{,:", ""])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def cost_of(value: Any) -> int:
    """By its definition; what is in no list and no object comes free."""
    if isinstance(value, dict):
        inner = sum(map(cost_of, value.values()))
        return COST_OF_OBJECT + COST_OF_NAME * len(value) + max(0, len(value) - 1) + inner
    if isinstance(value, list):
        return COST_OF_OBJECT + max(0, len(value) - 1) + sum(map(cost_of, value))
    return 0


@given(value=VALUES, cuts=st.lists(st.integers(0, 200)), as_ascii=st.booleans())
def test_it_counts_what_is_outside_of_strings(value: Any, cuts: list[int], as_ascii: bool) -> None:
    body = json.dumps(value, ensure_ascii=as_ascii).encode()
    cost, begin = JsonCost(), 0

    for cut in [*sorted(cuts), len(body)]:
        cost.feed(body[begin : max(begin, cut)])
        begin = max(begin, cut)

    assert cost.units == 1 + cost_of(value)
    assert not cost.has_nul


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": "tiny", "x": [' + b"[]," * 100_000 + b"[]]}",
        b'{"model": "tiny", "x": {' + b'"a":1,' * 100_000 + b'"a":1}}',
        b'{"model": "tiny", "prompt": [' + b"1," * 300_000 + b"1]}",
    ],
    ids=["lists", "names", "numbers"],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/api/v1/models"])
async def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(
    path: str, body: bytes
) -> None:
    async with gateway_world() as world:
        response = await world.client.post(
            path, content=body, headers={"Content-Type": "application/json"}
        )

        assert response.status_code == 413
        assert "too many values" in response.json()["error"]["message"]


async def test_a_text_may_have_as_many_signs_as_fit() -> None:
    async with gateway_world() as world:
        response = await world.chat('[{",:\\' * 200_000)

        assert response.json()["error"]["code"] == "context_length_exceeded"


async def test_another_encoding_is_told_so() -> None:
    async with gateway_world() as world:
        response = await world.client.post(
            "/v1/chat/completions",
            content='{"model": "tiny"}'.encode("utf-16"),
            headers={"Content-Type": "application/json"},
        )

        assert response.status_code == 400
        assert "UTF-8" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (CompletionRequest, {"prompt": [1, *["x"] * 9_999]}),
        (CompletionRequest, {"prompt": [[1, *["x"] * 9_999]]}),
        (ChatRequest, {"messages": [{"role": 1}] * 9_999}),
        (ChatRequest, {"messages": [{"role": "user", "content": [{}] * 9_999}]}),
    ],
)
def test_of_many_errors_the_first_is_told_and_the_others_are_not_looked_for(
    kind: type[GenerationRequest], body: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate({"model": "tiny", **body})

    assert caught.value.error_count() < 10
