"""Lists that are told in pages: what is asked for, and how the next page is named."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlencode

from fastapi import Query

from services.gateway.text.validity import StoredText

_STEP_ITEMS = 50  # are written before others have a turn: a millisecond or two of the loop
_Item = TypeVar("_Item")

After = Annotated[StoredText, Query(description="The name of the last one of the page before")]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most")]
PAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            "Link": {
                "description": '`<address>; rel="next"`, where there are more',
                "schema": {"type": "string"},
            }
        }
    }
}


def next_link(path: str, last_name: str, limit: int) -> str:
    """A header's value (RFC 8288)."""
    return f'<{path}?{urlencode({"after": last_name, "limit": limit})}>; rel="next"'


async def json_list(items: Sequence[_Item], encode: Callable[[_Item], str]) -> str:
    """An array of JSON; a long one is written in steps, between which others have their turns."""
    encoded: list[str] = []
    for begin in range(0, len(items), _STEP_ITEMS):
        encoded += map(encode, items[begin : begin + _STEP_ITEMS])
        await asyncio.sleep(0)
    return "[" + ",".join(encoded) + "]"
