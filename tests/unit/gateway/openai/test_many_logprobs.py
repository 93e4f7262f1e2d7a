"""Log-probabilities of long answers: compact while they wait, written part by part, bounded."""

import json
import tracemalloc
from typing import Any

import pytest

from libs.common.bus.messages import Logprob
from services.gateway.openai.answer import AnswerPiece
from services.gateway.openai.answer_format import AnswerFormat, WholeAnswer
from services.gateway.openai.chat_format import ChatFormat
from services.gateway.openai.responses import Usage
from services.gateway.openai.text_format import TextFormat
from services.gateway.openai.token_logprobs import ENTRY_BYTES, TokenLogprobs
from services.gateway.settings import Limits
from tests.unit.gateway.openai.test_completions import chunks_of
from tests.unit.gateway.tiny import END_ID, ids_of
from tests.unit.gateway.world import gateway_world

NUM_TOKENS = 2_000
TOP = tuple((token_id, -float(token_id)) for token_id in range(20))
ENTRY = Logprob(logprob=-0.25, top=TOP)
# What a text that imitates the lists of an answer must not be taken for.
HOSTILE = '"logprobs":{"content":[]},"tokens":[],"text_offset":[]'


def many(num_tokens: int = NUM_TOKENS) -> TokenLogprobs:
    found = TokenLogprobs(lambda token_id: bytes([token_id]))
    for index in range(num_tokens):
        found.append(index % 100, ENTRY)
    return found


def test_they_take_twelve_bytes_each() -> None:
    tracemalloc.start()

    kept = many()

    size_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(kept) == NUM_TOKENS
    assert size_bytes < 1.5 * ENTRY_BYTES * NUM_TOKENS * (1 + len(TOP))


def test_one_says_what_the_worker_said_and_lists_go_on_one_another() -> None:
    found, more = many(1), many(2)
    found.extend(more)

    assert len(found) == 3 and found[1:] == [found[1], found[2]] and found[-1] == found[2]
    assert (found[2].token, found[2].bytes, found[2].logprob) == ("\x01", [1], -0.25)
    assert [(top.bytes, top.logprob) for top in found[2].top_logprobs] == [
        ([token_id], logprob) for token_id, logprob in TOP
    ]
    with pytest.raises(IndexError):
        found[3]


@pytest.mark.parametrize("kind", [ChatFormat, TextFormat])
def test_no_part_of_the_json_is_long(kind: type[ChatFormat] | type[TextFormat]) -> None:
    answer_format: AnswerFormat = kind("id", "model", has_logprobs=True)
    piece = AnswerPiece(HOSTILE, many(), range(NUM_TOKENS), is_stopped=True)
    usage = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)

    parts = list(answer_format.whole([WholeAnswer(piece, "stop")] * 2, usage))

    body = json.loads(b"".join(parts))
    assert max(map(len, parts)) < 64 * 2**10 < sum(map(len, parts))
    for choice in body["choices"]:
        if kind is ChatFormat:
            assert choice["message"]["content"] == HOSTILE
            assert len(choice["logprobs"]["content"]) == NUM_TOKENS
        else:
            assert choice["text"] == HOSTILE
            assert {len(entries) for entries in choice["logprobs"].values()} == {NUM_TOKENS}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_a_whole_answer_says_what_its_stream_says(path: str) -> None:
    is_chat = "chat" in path
    prompt: dict[str, Any] = (
        {"messages": [{"role": "user", "content": "x"}], "logprobs": True, "top_logprobs": 2}
        if is_chat
        else {"prompt": "x", "logprobs": 2, "max_tokens": 200}
    )
    async with gateway_world() as world:
        world.worker.answer_ids = (*ids_of("hé€ " * 25), END_ID)
        whole = await world.client.post(path, json={"model": "tiny", **prompt})
        streamed = await world.client.post(path, json={"model": "tiny", "stream": True, **prompt})

    (choice,) = whole.json()["choices"]
    chunks = [part for chunk in chunks_of(streamed) for part in chunk["choices"]]
    found = [chunk["logprobs"] for chunk in chunks if chunk["logprobs"]]
    for name, entries in choice["logprobs"].items():
        assert entries == [entry for part in found for entry in part[name]]
        assert len(entries) == len(ids_of("hé€ ")) * 25


@pytest.mark.parametrize(
    ("parameters", "status"),
    [
        ({"max_tokens": 100, "top_logprobs": 9}, 200),
        ({"max_tokens": 101, "top_logprobs": 9}, 400),
        ({"max_tokens": 1_000}, 200),
        ({}, 400),  # as many as the context allows
        ({"top_logprobs": 20, "stream": True}, 200),
    ],
)
async def test_more_than_may_be_collected_are_refused_unless_they_are_streamed(
    parameters: dict[str, Any], status: int
) -> None:
    async with gateway_world(limits=Limits(max_logprobs=1_000, num_template_processes=1)) as world:
        response = await world.chat(logprobs=True, **parameters)

        assert response.status_code == status
        if status == 400:
            assert response.json()["error"]["code"] == "too_many_logprobs"
            assert "the limit is 1000: stream it" in response.json()["error"]["message"]
