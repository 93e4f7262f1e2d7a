"""A promise is kept at once, or by as much later as the machine is busy."""

import pytest

from tests.support.reference import Bound, measure_s


def test_what_keeps_the_promise_passes() -> None:
    Bound(2.0, multiple=0).check(1.9, "it")
    Bound(2.0, multiple=5).check(1.9, "it")


def test_the_bare_promise_gives_nothing_on_top() -> None:
    with pytest.raises(AssertionError, match=r"it took 2\.10 s, 2 s are promised"):
        Bound(2.0, multiple=0).check(2.1, "it")


def test_a_multiple_of_the_reference_is_allowed_and_no_more() -> None:
    reference_s = measure_s()
    bound = Bound(2.0, multiple=1000)

    bound.check(2.0 + 100 * reference_s, "it")
    with pytest.raises(AssertionError, match=r"are allowed: 2 s and 1000 times"):
        bound.check(2.0 + 1e6, "it")
