"""A gateway hands a prompt to an endpoint in parts, over a bus that loses some of them."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from libs.common.bus.bus import Bus
from libs.common.bus.handling import encode
from libs.common.bus.messages import CancelRequest, Generate, PromptPart, WorkerSpec
from libs.common.bus.prompt_parts import PART_IDS, parts_of, without_ids
from libs.common.bus.subjects import ENDPOINT_GENERATE
from libs.common.sampling import SamplingParameters
from libs.common.testing.bus import FakeClock, MemoryBroker
from services.gateway.generation.endpoint_client import EndpointClient, GenerateResult
from services.worker.agent.requests.bridge import Bridge
from services.worker.agent.requests.prompt_assembler import PromptMemory
from services.worker.frames.frames import (
    HEADER_BYTES,
    GenerateTokens,
    ToWorker,
    decode_to_worker,
)
from services.worker.frames.frames import encode as encode_frame
from tests.unit.worker.values import generate, worker_spec

NUM_IDS = 3 * PART_IDS + 1
CONTEXT = 2 * NUM_IDS
AGAIN = (GenerateResult.ABSENT, GenerateResult.UNANSWERED)  # as every gateway asks


def long_prompt(**changes: Any) -> Generate:
    """Over a megabyte, of which the last tokens come from an earlier attempt."""
    prompt = tuple(number % 250_000 for number in range(NUM_IDS - 4))
    return generate(prompt_ids=prompt, generated_ids=(1, 2, 3, 4), **changes)


@dataclass
class Endpoint:
    spec: WorkerSpec
    broker: MemoryBroker
    memory: PromptMemory = field(default_factory=PromptMemory)
    sent: list[ToWorker] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = FakeClock()
        self.bridge = self.started()

    def started(self) -> Bridge:
        """By an agent's next boot, too."""
        return Bridge(
            self.spec,
            bus=self.broker.bus(),
            clock=self.clock,
            send=self.sent.append,
            load_changed=lambda: None,
            slot_freed=lambda: None,
            prompt_memory=self.memory,
        )

    def client(self, bus: Bus, epoch: int = 1) -> EndpointClient:
        return EndpointClient(bus, "endpoint-a", epoch, timeout_s=0.05)

    def num_parts_sent(self) -> int:
        return sum(isinstance(message, PromptPart) for _, message in self.broker.published)


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    found = Endpoint(worker_spec(max_context_tokens=CONTEXT), MemoryBroker())
    await found.bridge.open()
    yield found
    await found.bridge.close()


@pytest.fixture
def client(endpoint: Endpoint) -> EndpointClient:
    return endpoint.client(endpoint.broker.bus())


async def test_a_prompt_of_more_than_a_message_may_have_reaches_the_worker_whole(
    endpoint: Endpoint, client: EndpointClient
) -> None:
    message = long_prompt()
    assert await client.generate(message) is GenerateResult.ACCEPTED

    (frame,) = endpoint.sent
    assert isinstance(frame, GenerateTokens)
    assert frame.prompt_ids == message.prompt_ids and frame.generated_ids == (1, 2, 3, 4)
    assert decode_to_worker(encode_frame(frame)[HEADER_BYTES:]) == frame
    assert max(len(encode(sent)) for _, sent in endpoint.broker.published) < 2**20
    assert endpoint.memory.num_bytes == 0


async def test_a_short_prompt_goes_in_one_message(
    endpoint: Endpoint, client: EndpointClient
) -> None:
    assert await client.generate(generate()) is GenerateResult.ACCEPTED
    assert endpoint.num_parts_sent() == 0


async def test_lost_parts_and_lost_answers_are_sent_again(
    endpoint: Endpoint, client: EndpointClient
) -> None:
    choose = random.Random(3)
    endpoint.broker.lose = lambda _subject, _message: choose.random() < 0.4

    while (result := await client.generate(long_prompt())) in AGAIN:
        pass

    assert result is GenerateResult.ACCEPTED
    assert len(endpoint.sent) == 1 and endpoint.num_parts_sent() > 4


async def test_an_endpoint_that_answers_no_part_was_asked_for_nothing(
    endpoint: Endpoint, client: EndpointClient
) -> None:
    endpoint.broker.lose = lambda _subject, _message: True
    assert await client.generate(long_prompt()) is GenerateResult.ABSENT
    assert endpoint.num_parts_sent() == 3


async def test_an_agent_that_was_started_between_parts_and_generate_is_sent_them_again(
    endpoint: Endpoint, client: EndpointClient
) -> None:
    message = long_prompt()
    bus = endpoint.broker.bus()
    original = endpoint.bridge
    restarted = endpoint.started()
    num_seen = 0

    class Restarting(type(bus)):  # type: ignore[misc]  # the double's class
        async def request(self, subject, *args, **options):  # type: ignore[no-untyped-def]
            nonlocal num_seen
            if subject is ENDPOINT_GENERATE:
                num_seen += 1
                if num_seen == 1:
                    await original.close()
                    await restarted.open()
            return await super().request(subject, *args, **options)

    result = await endpoint.client(Restarting(endpoint.broker)).generate(message)

    assert result is GenerateResult.ACCEPTED and num_seen == 2
    assert endpoint.num_parts_sent() == 2 * len(list(parts_of(message)))
    await restarted.close()


@pytest.mark.parametrize(
    ("spec", "epoch", "expected"),
    [
        (worker_spec(max_context_tokens=CONTEXT), 2, GenerateResult.REFUSED),
        (worker_spec(max_context_tokens=CONTEXT, is_draining=True), 1, GenerateResult.REFUSED),
        (worker_spec(max_context_tokens=NUM_IDS - 1), 1, GenerateResult.STALE_CONTEXT),
    ],
    ids=["another epoch", "draining", "a shorter context"],
)
async def test_who_cannot_take_it_says_so_to_the_first_part(
    endpoint: Endpoint, spec: WorkerSpec, epoch: int, expected: GenerateResult
) -> None:
    endpoint.bridge.spec = spec
    client = endpoint.client(endpoint.broker.bus(), epoch)

    assert await client.generate(long_prompt(epoch=epoch)) is expected
    assert endpoint.num_parts_sent() == 1 and not endpoint.sent


async def test_an_attempt_that_is_over_or_cancelled_keeps_nothing(
    endpoint: Endpoint, client: EndpointClient
) -> None:
    message = long_prompt()
    parts = list(parts_of(message))
    assert (await endpoint.bridge.keep_part(parts[0])).result == "kept"

    await endpoint.bridge.cancel(CancelRequest(request_id=message.request_id, attempt=1))

    assert endpoint.memory.num_bytes == 0
    assert (await endpoint.bridge.keep_part(parts[1])).result == "ended"
    assert await client.generate(message) is GenerateResult.ENDED


async def test_parts_of_what_runs_already_are_answered_as_its_generate_is(
    endpoint: Endpoint, client: EndpointClient
) -> None:
    await client.generate(long_prompt())
    assert await client.generate(long_prompt()) is GenerateResult.ACCEPTED
    assert len(endpoint.sent) == 1 and endpoint.memory.num_bytes == 0


async def test_a_generate_whose_answer_is_too_long_for_the_context_is_not_kept(
    endpoint: Endpoint, client: EndpointClient
) -> None:
    sampling = SamplingParameters(max_tokens=CONTEXT, seed=1)
    assert await client.generate(long_prompt(sampling=sampling)) is GenerateResult.STALE_CONTEXT
    assert endpoint.memory.num_bytes == 0


async def test_a_worker_that_is_gone_leaves_no_parts_behind(endpoint: Endpoint) -> None:
    for part in parts_of(long_prompt()):
        await endpoint.bridge.keep_part(part)
    assert endpoint.memory.num_bytes == NUM_IDS * 4

    await endpoint.bridge.worker_gone()

    assert endpoint.memory.num_bytes == 0
    assert (await endpoint.bridge.generate(without_ids(long_prompt()))).result == "draining"
