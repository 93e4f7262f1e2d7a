"""Work for a thread that keeps nothing of it."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

_Result = TypeVar("_Result")


async def in_thread(work: Callable[[], _Result]) -> _Result:
    """As `asyncio.to_thread`, whose thread holds arguments and result for some time after the end.

    A mapping that is held so keeps the memory of a file that was removed meanwhile.
    """
    todo, results = [work], list[_Result]()
    await asyncio.to_thread(lambda: results.append(todo.pop()()))
    return results.pop()
