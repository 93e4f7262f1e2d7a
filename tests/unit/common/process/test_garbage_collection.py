"""Full garbage collections come when there is little to do."""

import gc

import pytest

from libs.common.process import garbage_collection
from libs.common.process.garbage_collection import (
    full_collections_when_quiet,
    is_due,
    no_full_collections,
)
from tests.support.waiting import eventually


@pytest.mark.parametrize(
    ("num_busy", "num_young", "since_s", "is_expected", "why"),
    [
        (0, 10, 5.0, True, "nobody would notice"),
        (0, 9, 5.0, False, "there is little to find"),
        (2_500, 10_000, 5.0, False, "it would stop all streams"),
        (2_500, 10_000, 900.0, True, "what has gathered is not kept for ever"),
    ],
)
def test_a_full_collection_waits_for_a_quiet_moment(
    num_busy: int, num_young: int, since_s: float, is_expected: bool, why: str
) -> None:
    assert is_due(num_busy, num_young, since_s) is is_expected, why


class _Cycle:
    """Garbage that only a collection finds."""

    def __init__(self) -> None:
        self.me = self


async def test_open_requests_hold_full_collections_back_and_their_end_brings_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(garbage_collection, "CHECK_S", 0.01)
    num_busy, full = 1_000, 0

    def count(phase: str, info: dict[str, int]) -> None:
        nonlocal full
        full += phase == "stop" and info["generation"] == 2

    before = gc.get_threshold()
    async with full_collections_when_quiet(lambda: num_busy):
        gc.callbacks.append(count)
        try:
            kept = [[_Cycle()] for _ in range(200_000)]
            assert full == 0, "the interpreter begins none by itself"
            num_busy = 0
            await eventually(lambda: full > 0)
        finally:
            gc.callbacks.remove(count)
        assert len(kept) == 200_000

    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_a_block_within_another_leaves_the_end_to_the_outer_one() -> None:
    before = gc.get_threshold()
    with no_full_collections():
        within = gc.get_threshold()
        with no_full_collections():
            assert gc.get_threshold() == within
        assert gc.get_threshold() == within
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
