"""Messages that differ from their sender's last in a counter only are read as any other."""

import json
import random

import pytest
from pydantic import ValidationError

from libs.common.bus.handling import encode
from libs.common.bus.messages import AgentHeartbeat, DeviceObserved
from libs.common.bus.repetition import MAX_SENDERS, RepeatedMessages, repeats


def _beat(sequence: int, *, boot: str = "boot", accepted: int = 3) -> AgentHeartbeat:
    device = DeviceObserved(index=0, kind="cpu", memory_bytes=2**30, cores=1)
    return AgentHeartbeat(
        node_id="node",
        boot_id=boot,
        sequence=sequence,
        accepted_version=accepted,
        devices=(device,),
        workers=(),
    )


@pytest.fixture
def repeated() -> RepeatedMessages[AgentHeartbeat]:
    return RepeatedMessages(AgentHeartbeat, "sequence")


def test_a_repetition_is_equal_and_shares_what_was_read(
    repeated: RepeatedMessages[AgentHeartbeat],
) -> None:
    first = repeated.decode("a", encode(_beat(9)))
    second = repeated.decode("a", encode(_beat(10)))
    assert (first, second) == (_beat(9), _beat(10))
    assert second.devices is first.devices
    assert repeats(second, first)


def test_another_sender_and_other_words_are_read_anew(
    repeated: RepeatedMessages[AgentHeartbeat],
) -> None:
    first = repeated.decode("a", encode(_beat(9)))
    assert not repeats(repeated.decode("b", encode(_beat(10))), first)
    other = repeated.decode("a", encode(_beat(10, boot="later")))
    assert other == _beat(10, boot="later")
    assert not repeats(other, first)


@pytest.mark.parametrize(
    "counter", ["007", "-1", "1.5", "1e3", "null", '"5"', "", "9" * 30, "1,2", "1}", "²"]
)
def test_what_is_no_counter_is_read_as_if_it_were_the_first(
    repeated: RepeatedMessages[AgentHeartbeat], counter: str
) -> None:
    data = encode(_beat(9))
    repeated.decode("a", data)
    changed = data.replace(b'"sequence":9', b'"sequence":' + counter.encode())
    try:
        expected = AgentHeartbeat.model_validate_json(changed)
    except ValidationError:
        with pytest.raises(ValidationError):
            repeated.decode("a", changed)
    else:
        assert repeated.decode("a", changed) == expected


def test_bytes_in_which_head_and_tail_overlap_are_refused(
    repeated: RepeatedMessages[AgentHeartbeat],
) -> None:
    data = encode(_beat(9))
    repeated.decode("a", data)
    with pytest.raises(ValidationError):
        repeated.decode("a", data.replace(b"9", b"", 1))


def test_the_field_in_another_place_or_twice_is_read_right(
    repeated: RepeatedMessages[AgentHeartbeat],
) -> None:
    for sequence in (1, 2, 3):
        fields = json.loads(encode(_beat(sequence)))
        fields["sequence"] = fields.pop("sequence")
        assert repeated.decode("a", json.dumps(fields).encode()) == _beat(sequence)
        twice = encode(_beat(7)).replace(b"{", b'{"sequence":5,', 1)
        assert repeated.decode("a", twice) == AgentHeartbeat.model_validate_json(twice)


def test_any_mixture_is_read_as_without_memory(
    repeated: RepeatedMessages[AgentHeartbeat],
) -> None:
    draw = random.Random(5)
    for _ in range(500):
        data = encode(_beat(draw.randrange(40), accepted=draw.randrange(3)))
        found = repeated.decode(draw.choice("abc"), data)
        assert found == AgentHeartbeat.model_validate_json(data)


def test_senders_beyond_the_limit_are_forgotten(
    repeated: RepeatedMessages[AgentHeartbeat],
) -> None:
    for number in range(MAX_SENDERS + 5):
        repeated.decode(f"node-{number}", encode(_beat(1)))
    assert len(repeated._last) == MAX_SENDERS
