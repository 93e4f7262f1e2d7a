import pytest

from libs.common.bus.messages import FetchObserved
from libs.common.states import FetchState
from services.scheduler.policy.start_progress import StartProgress, start_progress
from tests.unit.scheduler.values import fetch

HALF = fetch(FetchState.FETCHING, bytes_done=50, bytes_total=100)
WHOLE = fetch(FetchState.COMPLETE, bytes_done=100, bytes_total=100)


@pytest.mark.parametrize(
    ("fetches", "expected", "reason"),
    [
        ([None], StartProgress("planned"), "no fetcher has spoken"),
        ([HALF], StartProgress("fetching", 50, 100), "bytes arrive"),
        ([WHOLE], StartProgress("starting", 100, 100), "the weights are there"),
        ([WHOLE, HALF], StartProgress("fetching", 150, 200), "one stage still fetches"),
        ([WHOLE, None], StartProgress("fetching", 100, 100), "one was not heard of"),
    ],
)
def test_the_phase_of_a_start(
    fetches: list[FetchObserved | None], expected: StartProgress, reason: str
) -> None:
    assert start_progress(fetches) == expected, reason


def test_the_fraction_is_zero_while_nothing_is_known() -> None:
    assert start_progress([None]).fraction == 0.0
    assert start_progress([HALF]).fraction == 0.5
