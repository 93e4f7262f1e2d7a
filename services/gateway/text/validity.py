"""Checks texts of a client: for the tokenizer, and for Postgres. Pure."""

import re
from typing import Annotated

from pydantic import AfterValidator

_HALF_PAIR = re.compile("[\ud800-\udfff]")


def _whole(value: str) -> str:
    """JSON can escape halves of surrogate pairs, which no encoding can hold."""
    if value.isascii():  # which takes no time at all
        return value
    try:
        value.encode()  # much faster than to search for them
    except UnicodeEncodeError:
        raise ValueError("it has half of a surrogate pair") from None
    return value


def _without_nul(value: str) -> str:
    if "\x00" in value:
        raise ValueError("it has a NUL character")
    return value


Text = Annotated[str, AfterValidator(_whole)]
StoredText = Annotated[Text, AfterValidator(_without_nul)]  # Postgres holds no NUL


def storable(text: str) -> str:
    """Somebody else's words, such as a worker's last ones, as Postgres can hold them."""
    return _HALF_PAIR.sub("\N{REPLACEMENT CHARACTER}", text.replace("\x00", ""))
