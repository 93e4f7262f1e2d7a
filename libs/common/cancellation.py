"""Cancellations that libraries must not swallow, and tasks that end in time.

Before Python 3.12 `asyncio.wait_for` swallows a cancellation that meets what it waits for, also in
the libraries that use it, and a driver may raise an error of its own instead. A loop above would
then go round for ever, and whoever waits for its end with it.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

END_TIMEOUT_S = 5.0

_Result = TypeVar("_Result")


@contextmanager
def reraise_cancellation() -> Iterator[None]:
    """Whatever becomes of a cancellation that comes within the block: it ends in CancelledError.

    One that came before does not count, so that what cleans up after it may go on.
    """
    task = asyncio.current_task()
    assert task is not None
    num_before = task.cancelling()
    try:
        yield
    except Exception as exc:
        if task.cancelling() > num_before:
            raise asyncio.CancelledError from exc
        raise
    if task.cancelling() > num_before:
        raise asyncio.CancelledError


async def finished(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Its result. Where the caller is cancelled the work is done first."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def cancel_all(
    tasks: "Iterable[asyncio.Task[None]]", timeout_s: float = END_TIMEOUT_S
) -> None:
    """Returns when all have ended, however, or after the timeout; the log names who has not."""
    told = set(tasks)
    for task in told:
        task.cancel()
    if not told:
        return
    ended, left = await asyncio.wait(told, timeout=timeout_s)
    for task in ended:
        if not task.cancelled():
            task.exception()  # seen: it is nobody's any more
    for task in left:
        logger.error("the task %s did not end within %g s", task.get_name(), timeout_s)
