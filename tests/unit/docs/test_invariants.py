"""The page of promises is complete, and marks those that the doctor checks.

That the tests which it names exist, `test_links.py` says.
"""

import re
from pathlib import Path

from deploy.local.doctor.promises import Promise

PAGE = (Path(__file__).parents[3] / "docs" / "invariants.md").read_text()
_ITEM = r"(?ms)^(\d+)\. (.*?)(?=^\d+\. |\Z)"
ITEMS = {int(number): text for number, text in re.findall(_ITEM, PAGE)}


def test_every_promise_has_a_test_and_says_what_it_is_good_for() -> None:
    assert sorted(ITEMS) == list(range(1, len(ITEMS) + 1))
    for number, text in ITEMS.items():
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", text), number
        assert re.search(r"- (Taught by|Guards against): ", text), number


def test_the_doctors_promises_are_marked_and_no_others() -> None:
    marked = {number for number, text in ITEMS.items() if "*doctor" in text}
    assert marked == {promise.value for promise in Promise}
