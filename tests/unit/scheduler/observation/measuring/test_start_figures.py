"""What a start says of its node, worked out from the moments of its steps."""

import pytest

from libs.common.bus.messages import FetchObserved, Step
from libs.common.states import FetchState
from services.scheduler.observation.measuring.start_figures import StartedStage, stage_figures
from services.scheduler.policy.prediction.quantities import Quantity
from tests.unit.scheduler.observation.measuring.steps import fetched, started, step


def figures(
    steps: tuple[Step, ...],
    fetch: FetchObserved | None = None,
    *others: FetchObserved,
    weight_bytes: int = 2 * 10**9,
) -> dict[Quantity, float]:
    by_name = {item.name: item for item in steps}
    every = (*([] if fetch is None else [fetch]), *others)
    found = stage_figures(StartedStage("node-1", weight_bytes, by_name, fetch, every))
    return {quantity: round(value, 6) for quantity, value in found.items()}


def without(name: str, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    return tuple(item for item in steps if item.name != name)


def test_a_launched_process_shows_what_it_takes_beside_its_import_and_its_tail() -> None:
    assert figures(started()) == {Quantity.BUILD_S: 0.3, Quantity.TAIL_S: 0.25}


def test_a_standby_shows_its_whole_launch() -> None:
    assert figures(started("standby")) == {
        Quantity.STANDBY_LAUNCH_S: 1.3,  # from 0.1 to 1.4
        Quantity.TAIL_S: 0.25,
    }


def test_where_the_bytes_waited_for_the_process_nothing_is_said_of_the_tail() -> None:
    assert Quantity.TAIL_S not in figures(started(weights_s=1.3))
    assert Quantity.TAIL_S in figures(started(weights_s=1.4))


@pytest.mark.parametrize("missing", ["spawn", "import", "build_engine", "weights", "load"])
def test_a_step_that_nobody_told_costs_the_figures_that_need_it(missing: str) -> None:
    expected = {
        "spawn": {Quantity.BUILD_S, Quantity.TAIL_S},  # no standby, as far as anybody knows
        "import": {Quantity.TAIL_S},
        "build_engine": set(),
        "weights": {Quantity.BUILD_S},
        "load": {Quantity.BUILD_S},
    }

    assert set(figures(without(missing, started()))) == expected[missing]


def test_times_that_no_start_takes_are_left_out() -> None:
    backwards = (*without("build_engine", started()), step("build_engine", 1.1, 0.9))
    for_hours = (*without("load", started()), step("load", 1.4, 10_000))
    running = (*without("load", started()), step("load", 1.4, None))

    assert set(figures(backwards)) == {Quantity.TAIL_S}
    for steps in (for_hours, running):
        assert set(figures(steps)) == {Quantity.BUILD_S}


def test_a_stage_that_seems_to_compute_before_its_last_byte_has_no_tail() -> None:
    told_early = (*without("load", started()), step("load", 1.4, 4.999))

    assert figures(told_early)[Quantity.TAIL_S] == 0.0


def test_a_lone_fetch_says_how_fast_its_card_is() -> None:
    # 100 MB, of which 20 MB were there, from second 1 to 5.
    assert figures((), fetched(num_cached=20_000_000)) == {Quantity.NIC_BYTES_PER_S: 2e7}


@pytest.mark.parametrize(
    ("fetch", "why"),
    [
        (fetched(last_s=1.4), "half a second at the least"),
        (fetched(num_bytes=8 * 2**20 - 1), "a chunk at the least"),
        (fetched(num_cached=95_000_000), "what was there says nothing of the card"),
        (fetched(state=FetchState.FETCHING), "it has not ended"),
        (fetched().model_copy(update={"steps": ()}), "nobody knows how long it took"),
    ],
)
def test_a_fetch_that_is_no_measure_of_the_card_is_none(fetch: FetchObserved, why: str) -> None:
    assert figures((), fetch) == {}, why


@pytest.mark.parametrize(
    ("other", "is_alone"),
    [
        (fetched("fetch-2", first_s=4.0, last_s=9.0), False),
        (fetched("fetch-2", first_s=0.2, last_s=2.0), False),
        (fetched("fetch-2", first_s=6.0, last_s=9.0), True),
        (fetched("fetch-2", first_s=-5.0, last_s=0.5), True),
    ],
)
def test_a_fetch_beside_another_one_says_nothing_of_the_card(
    other: FetchObserved, *, is_alone: bool
) -> None:
    assert (Quantity.NIC_BYTES_PER_S in figures((), fetched(), other)) is is_alone


def test_a_copy_of_bytes_that_were_there_says_how_fast_they_reach_the_device() -> None:
    copied = step("device_copy", 2.0, 2.5)

    there = figures((*started(weights_s=1.9), copied))
    arriving = figures((*started(weights_s=2.1), copied))

    assert there[Quantity.HOST_TO_DEVICE_BYTES_PER_S] == 4e9  # 2 GB in half a second
    assert Quantity.HOST_TO_DEVICE_BYTES_PER_S not in arriving
