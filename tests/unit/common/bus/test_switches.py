"""What an entry may tell of its switch."""

import pytest
from pydantic import ValidationError

from libs.common.bus.messages import PauseObserved, SwitchObserved

SWITCH = {
    "generation": 2,
    "transfer": "move",
    "num_sequences": 2,
    "precopied_bytes": 0,
    "moved_bytes": 0,
    "drain_ms": 1.5,
    "move_ms": 0,
}
PAUSE = {"request_id": "r1", "pause_ms": 2.5}


def test_what_was_measured_survives_the_way() -> None:
    told = SwitchObserved.model_validate({**SWITCH, "pauses": [PAUSE] * 256})
    assert SwitchObserved.model_validate_json(told.model_dump_json()) == told


@pytest.mark.parametrize(
    "wrong",
    [
        {"generation": 1},
        {"transfer": "copy"},
        {"num_sequences": -1},
        {"precopied_bytes": -1},
        {"moved_bytes": 2**60},
        {"drain_ms": -1},
        {"drain_ms": float("nan")},
        {"move_ms": float("inf")},
        {"predicted_move_ms": float("inf")},
        {"predicted_recompute_ms": -1},
        {"pauses": [PAUSE] * 257},
        {"pauses": [{**PAUSE, "request_id": "no id"}]},
        {"pauses": [{**PAUSE, "pause_ms": -1}]},
        {"pauses": [{**PAUSE, "usual_gap_ms": float("nan")}]},
    ],
    ids=str,
)
def test_what_no_switch_can_have_been_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SwitchObserved.model_validate({**SWITCH, **wrong})


@pytest.mark.parametrize("pause_ms", [-1, float("inf"), float("nan"), 1e11])
def test_no_request_waits_so_long(pause_ms: float) -> None:
    with pytest.raises(ValidationError):
        PauseObserved(request_id="r1", pause_ms=pause_ms)
