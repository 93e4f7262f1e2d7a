"""The official client against a served gateway: answers, streams, and its own exception classes."""

import openai
import pytest

from libs.common.bus.messages import SubmitRefused
from libs.common.reasons import Reason
from tests.integration.gateway.conftest import BOOTSTRAP_KEY, RunningGateway
from tests.support.waiting import eventually

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the capital of France?"}
]


def client_of(running: RunningGateway, key: str = BOOTSTRAP_KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=key, base_url=running.url + "/v1", max_retries=0, timeout=30)


async def test_the_official_client_gets_whole_answers_and_streams(running: RunningGateway) -> None:
    await running.register()

    async with client_of(running) as client:
        whole = await client.chat.completions.create(model="tiny", messages=MESSAGES)
        stream = await client.chat.completions.create(
            model="tiny", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        models = [model.id async for model in client.models.list()]
        model = await client.models.retrieve("tiny")

    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert whole.choices[0].message.content == text == "Hello, wörld!"
    assert whole.usage is not None and chunks[-1].usage == whole.usage
    assert models == [model.id] == ["tiny"]


async def test_the_official_client_gets_completions_of_prompts_of_every_kind(
    running: RunningGateway,
) -> None:
    await running.register()

    async with client_of(running) as client:
        for prompt in ("hi", ["hi", "there"], [1, 2, 3], [[1, 2], [3]]):
            whole = await client.completions.create(model="tiny", prompt=prompt, logprobs=1)
            stream = await client.completions.create(
                model="tiny",
                prompt=prompt,
                stream=True,
                logprobs=1,
                stream_options={"include_usage": True},
            )
            chunks = [chunk async for chunk in stream]

            choices = [choice for chunk in chunks for choice in chunk.choices]
            for index, choice in enumerate(whole.choices):
                mine = [part for part in choices if part.index == index]
                assert "".join(part.text for part in mine) == choice.text == "Hello, wörld!"
                assert mine[-1].finish_reason == choice.finish_reason == "stop"
                tokens = [t for part in mine if part.logprobs for t in part.logprobs.tokens or ()]
                assert choice.logprobs is not None and tokens == choice.logprobs.tokens
            assert whole.object == chunks[0].object == "text_completion"
            assert whole.usage is not None and chunks[-1].usage == whole.usage


async def test_the_official_client_raises_its_own_classes(running: RunningGateway) -> None:
    await running.register()
    async with client_of(running, "hs-wrong") as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.chat.completions.create(model="tiny", messages=MESSAGES)
    async with client_of(running) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="nope", messages=MESSAGES)
        with pytest.raises(openai.BadRequestError) as bad:
            await client.chat.completions.create(model="tiny", messages=MESSAGES, max_tokens=0)
        running.scheduler.refusal = SubmitRefused(
            code=Reason.QUEUE_FULL, message="100 wait", retry_after_s=3
        )
        with pytest.raises(openai.RateLimitError) as full:
            await client.chat.completions.create(model="tiny", messages=MESSAGES, stream=True)

    assert missing.value.code == "model_not_found"
    assert bad.value.param == "max_tokens"
    assert full.value.response.headers["retry-after"] == "3"


async def test_an_error_in_mid_stream_reaches_the_official_client_as_an_exception(
    running: RunningGateway,
) -> None:
    await running.register()
    running.worker.pause_after = 3
    async with client_of(running) as client:
        stream = await client.chat.completions.create(
            model="tiny",
            messages=MESSAGES,
            stream=True,
            extra_headers={"X-Request-Timeout-Ms": "1500"},
        )
        with pytest.raises(openai.APIError, match="deadline"):
            async for _chunk in stream:
                pass

    await eventually(lambda: len(running.worker.cancelled) == 1)
