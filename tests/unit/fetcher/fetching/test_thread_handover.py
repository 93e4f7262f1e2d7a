"""What a thread of a pool still holds after its work: here all of it, for certain."""

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from services.fetcher.fetching.thread_handover import in_thread


class Pages:
    """Something that ends with its last reference."""


class _KeepingExecutor(ThreadPoolExecutor):
    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self.kept: list[object] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self.kept += [fn, future]
        return future


@pytest.fixture
async def executor() -> _KeepingExecutor:
    keeping = _KeepingExecutor()
    asyncio.get_running_loop().set_default_executor(keeping)
    return keeping


@pytest.mark.usefixtures("executor")
async def test_what_was_made_in_a_thread_ends_with_its_user() -> None:
    made = await in_thread(Pages)
    watch = weakref.ref(made)

    del made

    assert watch() is None


@pytest.mark.usefixtures("executor")
async def test_what_was_used_in_a_thread_ends_with_its_user() -> None:
    pages = Pages()
    watch = weakref.ref(pages)
    await in_thread(partial(id, pages))

    del pages

    assert watch() is None


@pytest.mark.usefixtures("executor")
async def test_an_error_of_the_thread_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)
