"""No part of a stop string reaches the client, wherever the pieces are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.text.stop_strings import StopMatcher

LETTERS = st.text("ab\n", max_size=30)
STOPS = st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=4)


def run(pieces: list[str], stops: tuple[str, ...]) -> tuple[str, bool]:
    matcher, out = StopMatcher(stops), ""
    for piece in pieces:
        found = matcher.push(piece)
        out += found.text
        if found.is_stopped:
            return out, True
    return out + matcher.flush(), False


def first_stop(text: str, stops: list[str]) -> int | None:
    """Where the earliest-completed stop string begins, as reading letter by letter finds it."""
    for end in range(len(text) + 1):
        begins = [text.find(stop, 0, end) for stop in stops]
        found = [at for at in begins if at >= 0]
        if found:
            return min(found)
    return None


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "is_stopped", "why"),
    [
        (["Hello", " world"], (), "Hello world", False, "without stop strings all goes out"),
        (["Hel", "lo END x"], ("END",), "Hello ", True, "the stop string itself does not"),
        (["Hello E", "N", "D"], ("END",), "Hello ", True, "across pieces"),
        (["Hello E", "NX"], ("END",), "Hello ENX", False, "a beginning that comes to nothing"),
        (["Hello EN"], ("END",), "Hello EN", False, "held back until the end"),
        (["aab"], ("ab",), "a", True, "a false start inside a true one"),
        (["x\n\ny"], ("\n\n", "y"), "x", True, "the earliest of several"),
        (["abc"], ("c", "abc"), "", True, "the one that begins first in the same piece"),
    ],
)
def test_stop_strings_are_cut_off(
    pieces: list[str], stops: tuple[str, ...], text: str, is_stopped: bool, why: str
) -> None:
    assert run(pieces, stops) == (text, is_stopped), why


@given(LETTERS, STOPS)
def test_letter_by_letter_the_answer_ends_before_the_first_stop_string(
    text: str, stops: list[str]
) -> None:
    out, is_stopped = run(list(text), tuple(stops))

    at = first_stop(text, stops)
    assert is_stopped == (at is not None)
    assert out == (text if at is None else text[:at])


@given(LETTERS, STOPS, st.lists(st.integers(0, 30)))
def test_however_it_is_cut_nothing_but_a_beginning_of_the_text_goes_out(
    text: str, stops: list[str], cuts: list[int]
) -> None:
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in itertools.pairwise(bounds)]

    out, is_stopped = run(pieces, tuple(stops))

    assert text.startswith(out)
    assert is_stopped == any(stop in text for stop in stops)
    assert not any(stop in out for stop in stops)
