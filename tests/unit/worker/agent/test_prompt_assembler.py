"""Parts of long prompts: any order, any repetition, bounded, and nothing of another attempt."""

import random

import pytest

from libs.common.bus.messages import Generate, PromptPart
from libs.common.bus.prompt_parts import PART_IDS, is_possible, parts_of, without_ids
from libs.common.token_ids import BYTES_PER_ID
from services.worker.agent.requests.prompt_assembler import (
    KEEP_S,
    PromptAssembler,
    PromptMemory,
)
from tests.unit.worker.values import generate

PROMPT, GENERATED = tuple(range(2 * PART_IDS + 5)), (7,) * 10
NUM_IDS = len(PROMPT) + len(GENERATED)


def asked(request_id: str = "request-a", **changes: object) -> Generate:
    return generate(request_id, prompt_ids=PROMPT, generated_ids=GENERATED, **changes)


def assembler(max_prompts: int = 4, memory: PromptMemory | None = None) -> PromptAssembler:
    return PromptAssembler(memory or PromptMemory(), max_prompts * NUM_IDS)


def put_all(prompts: PromptAssembler, message: Generate, now_s: float = 0.0) -> set[str]:
    return {prompts.put(part, now_s) for part in parts_of(message)}


def test_whatever_comes_twice_late_or_in_another_order_the_prompt_is_whole_or_missing() -> None:
    choose = random.Random(5)
    for _ in range(30):
        prompts, message = assembler(), asked()
        parts = list(parts_of(message))
        come = [part for part in parts * 3 if choose.random() < 0.6]
        choose.shuffle(come)
        for part in come:
            assert prompts.put(part, 0.0) == "kept"

        prompt = prompts.take(without_ids(message))

        is_whole = len({part.first_index for part in come}) == len(parts) == 3
        assert (prompt is not None) == is_whole
        if prompt is not None:
            assert prompt.prompt_ids == PROMPT and prompt.generated_ids == GENERATED
            assert len(prompts) == 0


def test_a_prompt_within_its_message_needs_no_parts() -> None:
    prompt = assembler().take(generate(prompt_ids=(1, 2), generated_ids=(3,)))
    assert prompt is not None
    assert prompt.prompt_ids == (1, 2) and prompt.generated_ids == (3,)


def test_parts_of_one_attempt_serve_no_other() -> None:
    prompts, older, newer = assembler(), asked(attempt=1), asked(attempt=2)
    put_all(prompts, older)

    assert prompts.take(without_ids(newer)) is None
    assert put_all(prompts, newer) == {"kept"}
    assert put_all(prompts, older) == {"ended"}, "they were on their way for long"
    assert prompts.take(without_ids(older)) is None
    assert prompts.take(without_ids(newer)) is not None


def test_an_attempt_that_has_more_tokens_meanwhile_begins_anew() -> None:
    prompts, before = assembler(), asked()
    after = generate(prompt_ids=PROMPT, generated_ids=(*GENERATED, 8))
    put_all(prompts, before)
    first, *others = parts_of(after)

    prompts.put(first, 0.0)

    assert prompts.take(without_ids(before)) is None and prompts.take(without_ids(after)) is None
    for part in others:
        prompts.put(part, 0.0)
    prompt = prompts.take(without_ids(after))
    assert prompt is not None and prompt.generated_ids == (*GENERATED, 8)


@pytest.mark.parametrize(
    "changes",
    [{"first_index": 1}, {"first_index": 4 * PART_IDS}, {"first_index": 2 * PART_IDS}, {"ids": ()}],
    ids=["between parts", "behind the end", "too long for the last", "empty"],
)
def test_a_part_that_the_prompt_cannot_have_is_refused(changes: dict[str, object]) -> None:
    part = next(parts_of(asked()))
    wrong = PromptPart.model_validate({**dict(part), **changes})

    assert not is_possible(wrong)
    assert assembler().put(wrong, 0.0) == "refused"


def test_an_endpoint_keeps_no_more_than_its_slots_may_have_in_work() -> None:
    prompts = assembler(max_prompts=2)

    said = [put_all(prompts, asked(f"request-{number}")) for number in range(3)]

    assert said == [{"kept"}, {"kept"}, {"no_room"}]
    prompts.drop("request-0", 1)
    assert put_all(prompts, asked("request-2")) == {"kept"}


def test_one_endpoint_cannot_take_the_room_that_another_one_needs_for_a_prompt() -> None:
    memory = PromptMemory(max_bytes=2 * NUM_IDS * BYTES_PER_ID)
    greedy, modest = assembler(9, memory), assembler(9, memory)

    said = [put_all(greedy, asked(f"request-{number}")) for number in range(3)]
    assert said == [{"kept"}, {"kept"}, {"no_room"}]
    assert put_all(modest, asked("request-a")) == {"kept"}
    assert put_all(modest, asked("request-b")) == {"no_room"}
    assert memory.num_bytes == 3 * NUM_IDS * BYTES_PER_ID


def test_what_nobody_comes_for_is_forgotten_and_its_room_is_free() -> None:
    memory = PromptMemory()
    prompts = assembler(memory=memory)
    put_all(prompts, asked("request-a"), now_s=0.0)
    put_all(prompts, asked("request-b"), now_s=5.0)

    prompts.expire(KEEP_S)
    assert prompts.take(without_ids(asked("request-a"))) is None
    assert prompts.take(without_ids(asked("request-b"))) is not None
    put_all(prompts, asked("request-c"))
    prompts.clear()

    assert memory.num_bytes == 0
