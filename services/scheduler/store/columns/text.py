"""Texts from outside, fit for a column."""

from typing import overload

MAX_CHARACTERS = 4000


@overload
def storable(text: str) -> str: ...
@overload
def storable(text: None) -> None: ...
@overload
def storable(text: str | None) -> str | None: ...


def storable(text: str | None) -> str | None:
    """Postgres refuses NUL; a cause is for people, so its end may be missing."""
    return None if text is None else text.replace("\x00", "")[:MAX_CHARACTERS]
