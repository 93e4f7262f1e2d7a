"""What an entry tells of its speed: few numbers, each of a batch that is kept apart."""

from typing import get_args

import pytest
from pydantic import ValidationError

from libs.common.bus.messages import DecodeTime, EngineSpeed, WorkerObserved
from libs.common.decode_batches import DECODE_BATCHES
from libs.common.states import WorkerState

ALL = tuple(DecodeTime(batch=batch, mean_us=10**12) for batch in DECODE_BATCHES)


def observed(speed: EngineSpeed | None) -> str:
    worker = WorkerObserved(
        worker_id="worker-1", endpoint_id="endpoint-1", state=WorkerState.READY, speed=speed
    )
    return worker.model_dump_json()


def test_the_batches_of_the_message_are_those_that_are_kept_apart() -> None:
    assert get_args(DecodeTime.model_fields["batch"].annotation) == DECODE_BATCHES


def test_it_is_small_and_next_to_nothing_where_nothing_was_measured() -> None:
    largest = EngineSpeed(prefill_us_per_token=0.1 + 0.2, decode=ALL)

    nothing = len(observed(None)) - len(observed(None).replace('"speed":null,', ""))
    assert nothing == len('"speed":null,')
    assert len(observed(largest)) - len(observed(None)) < 300


@pytest.mark.parametrize(
    "speed",
    [
        '{"decode":[{"batch":3,"mean_us":5}]}',
        '{"decode":[{"batch":1,"mean_us":0}]}',
        '{"decode":[{"batch":1,"mean_us":1000000000001}]}',
        '{"decode":[{"batch":1,"mean_us":5},{"batch":1,"mean_us":5}]}',
        '{"prefill_us_per_token":0}',
        '{"prefill_us_per_token":1e400}',
        '{"prefill_us_per_token":"NaN"}',
    ],
)
def test_what_no_engine_measures_does_not_come_in(speed: str) -> None:
    with pytest.raises(ValidationError):
        EngineSpeed.model_validate_json(speed)
