"""Work for a thread that keeps nothing of it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

_Result = TypeVar("_Result")


async def in_thread(work: Callable[[], _Result], pool: Executor | None = None) -> _Result:
    """As `run_in_executor`, whose thread holds arguments and result for some time after the end.

    A mapping that is held so keeps the memory of a file that was removed meanwhile.
    """
    todo, results = [work], list[_Result]()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(pool, lambda: results.append(todo.pop()()))
    return results.pop()
