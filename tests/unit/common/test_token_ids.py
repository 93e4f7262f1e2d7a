"""Token ids in four bytes each: the same numbers, in memory, in messages and in frames."""

import random
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.bus.handling import decode, encode
from libs.common.bus.messages import Generate
from libs.common.token_ids import TokenIds
from tests.unit.worker.values import generate


@pytest.mark.parametrize("ids", [(), (0,), (1, 2, 3), (2**32 - 1, 7), tuple(range(1000))])
def test_what_is_written_is_read_again(ids: tuple[int, ...]) -> None:
    packed = TokenIds(ids)

    assert TokenIds.from_base64(packed.base64()) == packed == ids
    assert (len(packed), tuple(packed), hash(packed)) == (len(ids), ids, hash(ids))


def test_parts_of_them_are_sequences_of_the_same_kind() -> None:
    ids = TokenIds(range(10))

    assert (ids[3], ids[-1], tuple(ids[2:4])) == (3, 9, (2, 3))
    assert TokenIds.joined((ids[:4], ids[4:])) == ids[:4] + ids[4:] == tuple(range(10))
    assert "9" not in repr(TokenIds((9, 9))), "what prompts say is not for logs"


@pytest.mark.parametrize(
    "text",
    ["AQAAAA=", "AQAA", "A", "ä", "AQAAAA==\n", "\\u0000"],
    ids=["cut off", "three bytes", "no base64", "not ascii", "line end", "escape"],
)
def test_what_is_no_list_of_ids_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        TokenIds.from_base64(text)


@pytest.mark.parametrize("ids", [(-1,), (2**32,), ("a",), 5, "AQAA"])
def test_a_message_refuses_what_are_no_ids(ids: object) -> None:
    with pytest.raises(ValidationError):
        generate(prompt_ids=ids)


def test_a_prompt_of_a_message_takes_six_bytes_for_each_token_at_most() -> None:
    choose = random.Random(1)
    message = generate(prompt_ids=[choose.randrange(2**18) for _ in range(100_000)])

    data = encode(message)

    assert len(data) < 540_000
    assert decode(Generate, data) == message


def test_a_message_of_an_earlier_version_is_understood() -> None:
    document = encode(generate(prompt_ids=(1, 2, 3))).replace(b'"AQAAAAIAAAADAAAA"', b"[1,2,3]")

    assert decode(Generate, document).prompt_ids == (1, 2, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt_ids": ()},
        {"in_parts": {"num_prompt_ids": 1, "num_generated_ids": 0}},
        {
            "prompt_ids": (),
            "generated_ids": (1,),
            "in_parts": {"num_prompt_ids": 1, "num_generated_ids": 1},
        },
    ],
    ids=["nothing", "both", "half"],
)
def test_a_prompt_is_in_the_message_or_in_parts(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        generate(**changes)
