"""Keeps the interpreter's full garbage collections for moments in which a process has little to do.

A full collection looks at every object, and meanwhile nothing moves: a gateway has some five
hundred for each stream that waits, a leader some hundred for each endpoint, so with thousands of
them it takes seconds, and the interpreter begins one whenever their number has grown by a quarter.
Nearly all that becomes garbage in a cycle is young, and is found by the collections of the young,
which go on, but less often.
"""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from libs.common.cancellation import cancel_all

logger = logging.getLogger(__name__)

CHECK_S = 5.0
MAX_BUSY = 100  # requests or endpoints, with which it takes a tenth of a second at most
MIN_YOUNG = 10  # collections of the young since the last full one: before, it finds little
MAX_WAIT_S = 900.0  # then whatever has gathered is not kept any longer
# How many new objects begin a collection of the young. It looks at all that they refer to, which in
# a leader are mappings of all its nodes, so that it takes long however few they are: with the
# interpreter's 700, half of a decision's time in every twentieth decision.
YOUNG_OBJECTS = 5_000
YOUNG_OBJECTS_OF_BATCHES = 50_000
OLDER_COLLECTIONS = 2  # of the young between two of those that they have left
_NEVER = 2**30


def is_due(num_busy: int, num_young: int, since_s: float) -> bool:
    """`since_s` the last full collection, `num_young` of the others."""
    if num_young < MIN_YOUNG:
        return False
    return num_busy <= MAX_BUSY or since_s >= MAX_WAIT_S


@asynccontextmanager
async def full_collections_when_quiet(num_busy: Callable[[], int]) -> AsyncIterator[None]:
    """For this process; `num_busy` counts the requests or endpoints that it holds. What lives when
    the block begins is looked at never again."""
    with no_full_collections(YOUNG_OBJECTS):
        collecting = asyncio.create_task(_collect_when_quiet(num_busy))
        try:
            yield
        finally:
            await cancel_all([collecting])


@contextmanager
def no_full_collections(young_objects: int = YOUNG_OBJECTS_OF_BATCHES) -> Iterator[None]:
    """For a computation that ends, and of which what is garbage in a cycle is young. Within another
    such block, also in another thread, it changes nothing. `young_objects` begin a collection of
    the young; by default so many as suit what nobody waits for: a tenth less time than with those
    of a service."""
    before = gc.get_threshold()
    if before[2] == _NEVER:
        yield
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(young_objects, OLDER_COLLECTIONS, _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


async def _collect_when_quiet(num_busy: Callable[[], int]) -> None:
    collected_s = time.monotonic()
    while True:
        await asyncio.sleep(CHECK_S)
        now_s = time.monotonic()
        if is_due(num_busy(), gc.get_count()[2], now_s - collected_s):
            gc.collect()
            collected_s = time.monotonic()
            logger.debug("a full garbage collection took %.3f s", collected_s - now_s)
