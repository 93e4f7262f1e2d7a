"""POST /v1/chat/completions from the client's side: answers, streams, stops, progress."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from libs.common.bus.messages import RequestProgressed, SubmitRequest
from libs.common.bus.subjects import REQUEST_PROGRESS
from tests.support.waiting import eventually
from tests.unit.gateway.tiny import END_ID, ids_of, model_entry, summary_of, tokenizer_files
from tests.unit.gateway.world import gateway_world


def events(response: httpx.Response) -> list[Any]:
    """The data of a stream's events, without comments and [DONE]."""
    lines = [line[6:] for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def part(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def text_of(chunks: list[Any]) -> str:
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


async def test_a_cold_model_answers_whole() -> None:
    async with gateway_world() as world:
        response = await world.chat("hi")

        body = response.json()
        assert response.status_code == 200
        assert body["object"] == "chat.completion"
        assert body["choices"][0]["message"] == {
            "role": "assistant", "content": "Hello, wörld!", "refusal": None,
        }  # fmt: skip
        assert body["choices"][0]["finish_reason"] == "stop"
        prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
        assert world.worker.generated[0].prompt_ids == ids_of(prompt)
        assert body["usage"] == {
            "prompt_tokens": len(ids_of(prompt)),
            "completion_tokens": 15,
            "total_tokens": len(ids_of(prompt)) + 15,
        }


async def test_a_stream_says_the_same_in_pieces_and_ends_with_done() -> None:
    async with gateway_world() as world:
        response = await world.chat(stream=True)

        chunks = events(response)
        assert response.headers["content-type"].startswith("text/event-stream")
        assert text_of(chunks) == "Hello, wörld!"
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert all("usage" not in chunk for chunk in chunks)
        assert response.text.endswith("data: [DONE]\n\n")


async def test_usage_comes_last_when_it_was_asked_for() -> None:
    async with gateway_world() as world:
        response = await world.chat(stream=True, stream_options={"include_usage": True})

        chunks = events(response)
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["completion_tokens"] == 15
        assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_usage_so_far_comes_in_every_chunk_where_that_was_asked_for() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with gateway_world() as world:
        chunks = events(await world.chat(stream=True, stream_options=options))

        counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
        assert counts == sorted(counts)
        assert (counts[0], counts[-1]) == (1, 15)
        assert chunks[-1]["choices"] == []


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stop_string_ends_the_answer_and_cancels_the_worker(stream: bool) -> None:
    async with gateway_world() as world:
        world.worker.answer_ids = (*ids_of("one two three four"), END_ID)
        world.worker.pause_after = 14  # it would go on after "three"

        response = await world.chat(stream=stream, stop=["three", "never"])

        if stream:
            chunks = events(response)
            assert text_of(chunks) == "one two "
            assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
        else:
            body = response.json()
            assert body["choices"][0]["message"]["content"] == "one two "
            assert body["usage"]["completion_tokens"] == len(ids_of("one two three"))
        await eventually(lambda: len(world.worker.cancelled) == 1)
        await eventually(lambda: len(world.writer.ended) == 1)
        assert world.writer.ended[0].outcome == "stop"


@pytest.mark.parametrize("stream", [True, False])
async def test_what_came_after_a_stop_string_is_neither_given_nor_counted(stream: bool) -> None:
    async with gateway_world() as world:
        world.worker.answer_ids = (*ids_of("one two three four"), END_ID)
        # All but the last message are lost, so that all is asked for and comes as one batch.
        world.worker.skip_publishing = lambda message: message.finish is None

        await world.chat(stream=stream, stop=["two"])

        await eventually(lambda: len(world.writer.ended) == 1)
        assert world.worker.resends
        assert world.writer.ended[0].num_generated_tokens == len(ids_of("one two"))


async def test_content_may_come_in_text_parts_and_developers_speak_as_system() -> None:
    async with gateway_world() as world:
        messages = [
            {"role": "developer", "content": [part("be "), part("brief")]},
            {"role": "user", "content": "hi", "name": "ann"},
        ]

        response = await world.chat(messages=messages, user="u", metadata={"a": "b"}, store=True)

        assert response.status_code == 200
        prompt = "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n"
        expected = ids_of(prompt + "<|im_start|>assistant\n")
        assert world.worker.generated[0].prompt_ids == expected


async def test_a_waiting_stream_carries_progress_as_comments_and_its_headers_come_at_once() -> None:
    async with gateway_world() as world:
        world.scheduler.is_assigning = False
        request = {
            "model": "tiny",
            "messages": [{"role": "user", "content": "hi"}],
            "stream": True,
        }

        async def progress_then_assign(submission: SubmitRequest) -> None:
            message = RequestProgressed(
                request_id=submission.request_id, phase="fetching", bytes_done=5, bytes_total=9
            )
            await world.scheduler.bus.publish(REQUEST_PROGRESS, submission.request_id, message)

        sending = asyncio.create_task(world.client.post("/v1/chat/completions", json=request))
        await eventually(lambda: len(world.scheduler.submissions) > 0)
        await progress_then_assign(world.scheduler.submissions[0])
        await eventually(lambda: len(world.scheduler.listed) > 2)  # repeated while it waits
        world.scheduler.is_assigning = True
        response = await sending

        comments = [line for line in response.text.splitlines() if line.startswith(": progress")]
        assert ': progress {"phase":"fetching","bytes_done":5,"bytes_total":9}' in comments
        assert text_of(events(response)) == "Hello, wörld!"


async def test_progress_comes_as_events_for_a_client_that_asks() -> None:
    async with gateway_world() as world:
        world.worker.pause_after = 1

        sending = asyncio.create_task(
            world.client.post(
                "/v1/chat/completions",
                json={
                    "model": "tiny",
                    "messages": [{"role": "user", "content": "x"}],
                    "stream": True,
                },
                headers={"X-Hydra-Progress": "events"},
            )
        )
        await eventually(lambda: len(world.worker.resends) > 1)
        world.worker.go_on.set()
        response = await sending

        assert 'event: progress\ndata: {"phase":"waiting"}\n\n' in response.text


async def test_a_warm_model_is_asked_directly_and_its_row_is_written_by_the_gateway() -> None:
    async with gateway_world() as world:
        await world.warm_route("ep-1")

        response = await world.chat()

        assert response.status_code == 200
        assert world.scheduler.submissions == []
        await eventually(lambda: len(world.writer.ended) == 1)
        row = world.writer.ended[0]
        assert (row.outcome, row.endpoint_id, row.is_slo_met) == ("stop", "ep-1", True)
        assert row.num_generated_tokens == 15
        assert response.headers["x-request-id"] == row.id


async def test_the_finish_is_acknowledged() -> None:
    async with gateway_world() as world:
        await world.chat()

        await eventually(lambda: len(world.worker.acknowledged) == 1)
        assert world.worker.cancelled == []


async def test_two_models_and_many_requests_at_once_are_all_answered() -> None:

    async with gateway_world(entries=[model_entry("tiny"), model_entry("other")]) as world:
        answers = await asyncio.gather(
            *(world.chat(str(n), model=name) for n in range(10) for name in ("tiny", "other"))
        )

        texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
        assert texts == ["Hello, wörld!"] * 20
        assert world.gateway.dispatcher.open_ids == ()


async def test_a_model_without_a_template_says_what_to_do() -> None:
    files = tokenizer_files()
    del files["chat_template.jinja"]
    entry = model_entry(summary=summary_of(files))
    async with gateway_world(entries=[entry], files=files) as world:
        response = await world.chat("hi")

        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, "no_chat_template")
        assert "/v1/completions" in error["message"]
        assert "--chat-template" in error["message"]


@pytest.mark.parametrize("has_own", [True, False])
async def test_a_template_that_was_given_to_the_model_is_the_one_that_counts(has_own: bool) -> None:
    files = tokenizer_files()
    if not has_own:
        del files["chat_template.jinja"]
    entry = model_entry(
        summary=summary_of(files),
        chat_template="{% for m in messages %}Q: {{ m.content }}\nA:{% endfor %}",
    )
    async with gateway_world(entries=[entry], files=files) as world:
        response = await world.chat("hi")

        assert response.status_code == 200
        assert world.worker.generated[0].prompt_ids == ids_of("Q: hi\nA:")
