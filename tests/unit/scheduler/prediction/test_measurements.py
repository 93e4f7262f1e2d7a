"""Weighted quantiles over a prior, worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.prediction.measurements import (
    DECAY,
    MAX_VALUES,
    Measurements,
)

VALUES = st.lists(st.floats(0.001, 1000), max_size=40)


@pytest.mark.parametrize(
    ("values", "fraction", "expected", "why"),
    [
        ((), 0.5, 2.0, "nothing was measured: the prior alone"),
        # Weights: prior 0.85, value 1; sum 1.85, half of it 0.925.
        ((1.0,), 0.5, 1.0, "1 weighs 1 of 1.85"),
        ((3.0,), 0.5, 3.0, "the prior 2 weighs 0.85, less than half of 1.85"),
        ((3.0,), 0.4, 2.0, "the prior's 0.85 reach 0.74"),
        # Newest first: 1 of 9, 0.85 of 1, 0.7225 of the prior; sum 2.5725.
        ((1.0, 9.0), 0.5, 2.0, "0.85 + 0.7225 reach 1.286"),
        ((1.0, 9.0), 0.9, 9.0, "only 9 reaches 2.315"),
        ((1.0, 9.0), 1.0, 9.0, "the largest"),
    ],
)
def test_a_quantile_weighs_the_newest_most(
    values: tuple[float, ...], fraction: float, expected: float, why: str
) -> None:
    assert Measurements(values).quantile(fraction, prior=2.0) == expected, why


def test_a_change_is_believed_after_as_many_values_as_weigh_half() -> None:
    measured = Measurements((1.0,) * MAX_VALUES)
    counts = 0
    while measured.median(prior=1.0) < 5.0:
        measured, counts = measured.add(5.0), counts + 1

    assert counts == 5  # 1 + 0.85 + ... + 0.85**4 = 3.71 of 6.56; four are 3.19


def test_only_so_many_are_kept() -> None:
    measured = Measurements().extend(float(i) for i in range(100))

    assert measured.values == tuple(float(i) for i in range(100 - MAX_VALUES, 100))
    assert DECAY**MAX_VALUES < 0.03  # what is dropped weighed next to nothing


@given(VALUES, st.floats(0.01, 1), st.floats(0.001, 1000))
def test_a_quantile_is_one_of_the_values_and_grows_with_its_fraction(
    values: list[float], fraction: float, prior: float
) -> None:
    measured = Measurements().extend(values)

    found = measured.quantile(fraction, prior)

    assert found in (*measured.values, prior)
    assert found >= measured.quantile(fraction / 2, prior)


@given(VALUES, st.floats(0.01, 1), st.floats(0.001, 500), st.floats(1, 2))
def test_slower_measurements_never_make_it_faster(
    values: list[float], fraction: float, prior: float, factor: float
) -> None:
    slower = [factor * value for value in values]

    faster_value = Measurements().extend(values).quantile(fraction, prior)

    assert Measurements().extend(slower).quantile(fraction, prior) >= faster_value
