"""POST /v1/completions from the client's side: prompts of every kind, whole and streamed."""

import json
from typing import Any

import httpx
import pytest

from tests.support.waiting import eventually
from tests.unit.gateway.tiny import END_ID, ids_of, model_entry, summary_of, tokenizer_files
from tests.unit.gateway.world import GatewayWorld, gateway_world


def chunks_of(response: httpx.Response) -> list[Any]:
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def texts_of(chunks: list[Any]) -> dict[int, str]:
    texts: dict[int, str] = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    return texts


def prompts_given(world: GatewayWorld) -> set[tuple[int, ...]]:
    return {tuple(message.prompt_ids) for message in world.worker.generated}


async def test_a_text_is_continued_as_it_is_without_any_template() -> None:
    async with gateway_world() as world:
        response = await world.complete("Once upon", max_tokens=5)

        body = response.json()
        assert response.status_code == 200
        assert body["id"] == "cmpl-" + response.headers["x-request-id"]
        assert body["object"] == "text_completion"
        assert body["choices"] == [
            {"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "length"}
        ]
        assert body["usage"] == {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
        assert world.worker.generated[0].prompt_ids == ids_of("Once upon")


@pytest.mark.parametrize(
    ("prompt", "given"),
    [
        (["ab", "c"], {ids_of("ab"), ids_of("c")}),
        ([1, 2, 3], {(1, 2, 3)}),
        ([[1, 2], [3]], {(1, 2), (3,)}),
        (["<|im_end|>"], {(END_ID,)}),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_each_prompt_gets_a_choice_of_its_own(
    prompt: Any, given: set[tuple[int, ...]], stream: bool
) -> None:
    async with gateway_world() as world:
        response = await world.complete(prompt, stream=stream)

        expected = {index: "Hello, wörld!" for index in range(len(given))}
        if stream:
            assert texts_of(chunks_of(response)) == expected
        else:
            choices = response.json()["choices"]
            assert {choice["index"]: choice["text"] for choice in choices} == expected
            assert response.json()["usage"]["completion_tokens"] == 15 * len(given)
        assert prompts_given(world) == given


async def test_a_stream_ends_each_choice_with_its_reason_and_the_usage_of_all() -> None:
    async with gateway_world() as world:
        response = await world.complete(
            ["a", "bc"], stream=True, stream_options={"include_usage": True}
        )

        chunks = chunks_of(response)
        ends = [c for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
        assert sorted(choice["index"] for choice in ends) == [0, 1]
        assert {chunk["object"] for chunk in chunks} == {"text_completion"}
        assert (chunks[-1]["choices"], chunks[-1]["usage"]["total_tokens"]) == ([], 3 + 30)
        assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_the_default_is_sixteen_tokens_as_with_openai_or_what_the_context_leaves() -> None:
    async with gateway_world(entries=[model_entry(max_context_tokens=10)]) as world:
        world.worker.answer_ids = ids_of("x" * 30)
        short = await world.complete("123456")

        assert short.json()["usage"]["completion_tokens"] == 4
    async with gateway_world() as world:
        world.worker.answer_ids = ids_of("x" * 30)
        usual = await world.complete("123456")

        assert usual.json()["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("stream", [True, False])
async def test_log_probabilities_come_in_the_old_form(stream: bool) -> None:
    async with gateway_world() as world:
        world.worker.answer_ids = (*ids_of("Hé!"), END_ID)
        response = await world.complete(logprobs=2, stream=stream)

        if stream:
            found = [c["logprobs"] for chunk in chunks_of(response) for c in chunk["choices"]]
            entries = {name: [x for part in found for x in part[name]] for name in found[0]}
        else:
            entries = response.json()["choices"][0]["logprobs"]
        assert entries["tokens"] == ["H", "\\xc3", "\\xa9", "!"]
        assert entries["token_logprobs"] == [-0.5] * 4
        assert entries["top_logprobs"][0] == {"H": -0.5, "I": -1.5}
        assert entries["text_offset"] == [0, 1, 1, 2]


async def test_a_stop_string_ends_its_own_choice_alone() -> None:
    async with gateway_world() as world:
        response = await world.complete(["a", "b"], stop="wör", stream=True)

        chunks = chunks_of(response)
        assert texts_of(chunks) == {0: "Hello, ", 1: "Hello, "}
        await eventually(lambda: len(world.writer.ended) == 2)
        assert {row.outcome for row in world.writer.ended} == {"stop"}


async def test_a_seed_and_sampling_reach_the_worker() -> None:
    async with gateway_world() as world:
        await world.complete(seed=7, temperature=0, ignore_eos=True, min_tokens=2, max_tokens=3)

        sampling = world.worker.generated[0].sampling
        assert (sampling.seed, sampling.temperature, sampling.min_tokens) == (7, 0, 2)
        assert (sampling.ignore_eos, sampling.stop_token_ids) == (True, ())


async def test_one_refused_prompt_refuses_them_all_with_a_real_status() -> None:
    async with gateway_world() as world:
        response = await world.complete([[1], [9] * 5000], stream=True)

        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"
        assert world.scheduler.submissions == []


async def test_an_error_in_mid_stream_ends_all_choices() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 3
        response = await world.client.post(
            "/v1/completions",
            json={"model": "tiny", "prompt": ["a", "b"], "stream": True},
            headers={"X-Request-Timeout-Ms": "700"},
        )

        assert '"code":"deadline_exceeded"' in response.text
        assert world.gateway.dispatcher.open_ids == ()
        await eventually(lambda: len(world.writer.ended) == 2)
        assert {row.outcome for row in world.writer.ended} == {"deadline"}


@pytest.mark.parametrize(
    ("parameters", "code", "param"),
    [
        ({"prompt": ""}, "empty_prompt", "prompt"),
        ({"prompt": []}, "invalid_value", "prompt"),
        ({"prompt": [[]]}, "invalid_value", "prompt[0]"),
        ({"prompt": ["a", 1]}, "invalid_value", "prompt[1]"),
        ({"prompt": [1, -1]}, "invalid_value", "prompt[1]"),
        ({"prompt": [1, True]}, "invalid_value", "prompt[1]"),
        ({"prompt": 5}, "invalid_value", "prompt"),
        ({"prompt": None}, "invalid_value", "prompt"),
        ({"prompt": [258]}, "invalid_value", "prompt"),
        ({"prompt": [[1], [258]]}, "invalid_value", "prompt"),
        ({"prompt": ["a"] * 33}, "invalid_value", "prompt"),
        ({"prompt": "x" * 5000}, "context_length_exceeded", "prompt"),
        ({"logprobs": 21}, "invalid_value", "logprobs"),
        ({"logprobs": True}, "invalid_value", "logprobs"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"echo": True}, "unsupported_parameter", "echo"),
        ({"best_of": 3}, "unsupported_parameter", "best_of"),
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"suffix": "end"}, "unsupported_parameter", "suffix"),
        ({"messages": []}, "unknown_parameter", "messages"),
    ],
)
async def test_what_cannot_work_is_named(parameters: dict[str, Any], code: str, param: str) -> None:
    async with gateway_world() as world:
        response = await world.complete(**{"prompt": "hi", **parameters})

        error = response.json()["error"]
        assert (response.status_code, error["code"], error["param"]) == (400, code, param)


@pytest.mark.parametrize(
    "harmless",
    [
        {"echo": False}, {"best_of": 1}, {"n": 1}, {"suffix": None}, {"logprobs": None},
        {"repetition_penalty": 1.0}, {"add_special_tokens": True}, {"add_special_tokens": False},
        {"logit_bias": None}, {"user": "u"}, {"use_beam_search": False}, {"stop": []},
        {"stream": False, "stream_options": None},
    ],
)  # fmt: skip
async def test_a_parameter_that_changes_nothing_is_no_error(harmless: dict[str, Any]) -> None:
    async with gateway_world() as world:
        assert (await world.complete(**harmless)).status_code == 200


async def test_what_the_tokenizer_puts_before_a_text_is_there_unless_it_is_not_wanted() -> None:
    files = tokenizer_files()
    tokenizer = json.loads(files["tokenizer.json"])
    special = {"id": "<|im_start|>", "ids": [END_ID - 1], "tokens": ["<|im_start|>"]}
    start = {"SpecialToken": {"id": "<|im_start|>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    tokenizer["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [start, text],
        "pair": [start, text, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<|im_start|>": special},
    }
    files["tokenizer.json"] = json.dumps(tokenizer).encode()
    entry = model_entry(summary=summary_of(files))
    async with gateway_world(entries=[entry], files=files) as world:
        await world.complete("ab")
        await world.complete("ab", add_special_tokens=False)
        await world.complete([5, 6])

        given = [message.prompt_ids for message in world.worker.generated]
        assert given == [(END_ID - 1, *ids_of("ab")), ids_of("ab"), (5, 6)]
