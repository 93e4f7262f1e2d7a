"""Tells whether a regular expression of a tokenizer runs in bounded time. Pure.

Tokenizers' library backtracks, so a repetition within a repetition takes exponential time on texts
made for it. What Python's own parser cannot read either is not taken for bounded.
"""

import re
import warnings
from collections.abc import Iterator
from re import _constants, _parser  # type: ignore[attr-defined] # the parser has no public name
from typing import Any

MAX_LENGTH = 2_048
_MAX_REPEATS_IN_A_ROW = 3  # without a bound, in one alternative: time grows with its power
_MAX_FIXED = 64
_PROPERTY = re.compile(r"\\[pP](\{\^?\w+\}|\w)")
_REFERENCES = (_constants.GROUPREF, _constants.GROUPREF_EXISTS)
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT, _constants.POSSESSIVE_REPEAT)


def is_bounded(pattern: str) -> bool:
    """No repetition holds another one or alternatives, and few follow one another."""
    if len(pattern) > MAX_LENGTH:
        return False
    # A class of characters is one, whichever; Python knows no properties of Unicode.
    readable = _PROPERTY.sub(r"\\w", pattern)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = _parser.parse(readable)
    except (re.error, RecursionError, OverflowError):
        return False
    return _num_repeats(parsed, is_repeated=False) <= _MAX_REPEATS_IN_A_ROW


_TOO_MANY = _MAX_REPEATS_IN_A_ROW + 1


def _num_repeats(parsed: Any, *, is_repeated: bool) -> int:
    """Of the worst alternative; too many when one holds another."""
    return sum(_num_repeats_of(op, value, is_repeated) for op, value in parsed)


def _num_repeats_of(op: Any, value: Any, is_repeated: bool) -> int:
    if op in _REFERENCES or (op is _constants.BRANCH and is_repeated):
        return _TOO_MANY
    if op in _REPEATS:
        least, most, inner = value
        if is_repeated and most != least:
            return _TOO_MANY
        num_inner = _num_repeats(inner, is_repeated=is_repeated or most > 1)
        return num_inner + int(most > _MAX_FIXED)
    return max(
        (_num_repeats(part, is_repeated=is_repeated) for part in _parts(op, value)), default=0
    )


def _parts(op: Any, value: Any) -> Iterator[Any]:
    """What is parsed within an element."""
    if op is _constants.BRANCH:
        yield from value[1]
    elif op in (_constants.SUBPATTERN, _constants.ASSERT, _constants.ASSERT_NOT):
        yield value[-1]
    elif op is _constants.ATOMIC_GROUP:
        yield value
