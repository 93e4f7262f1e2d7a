"""Warm child processes, replaced when they die or have answered often enough."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Self

from services.gateway.children.child_process import ChildCommand, ChildProcess
from services.gateway.errors import ChildFailed
from services.gateway.fair_semaphore import FairSemaphore

logger = logging.getLogger(__name__)

_MAX_EXCHANGES = 10_000  # then a fresh process: what a stranger's code leaves behind is no more


class Child:
    """One place in the pool; the process in it changes."""

    def __init__(self, command: ChildCommand) -> None:
        self._command = command
        self._starting: asyncio.Task[ChildProcess] | None = None
        self._num_exchanges = 0
        self._is_closed = False
        self.held: set[str] = set()  # what its process keeps between requests, as its user noted

    def renew(self) -> None:
        self._starting = asyncio.create_task(ChildProcess.start(self._command))
        self._starting.add_done_callback(_seen)
        self._num_exchanges = 0
        self.held.clear()

    async def exchange(self, request: bytes, timeout_s: float) -> bytes:
        """Raises ChildFailed. A process that died through no fault of the request, such as one
        that was killed while it was idle, is replaced and asked once more."""
        try:
            return await self._exchange(request, timeout_s)
        except ChildFailed as exc:
            if exc.is_own_fault or self._is_closed:
                raise
            logger.warning("a child process had died and is asked again: %s", exc)
        return await self._exchange(request, timeout_s)

    async def _exchange(self, request: bytes, timeout_s: float) -> bytes:
        process = await self._process()
        self._num_exchanges += 1
        try:
            return await process.exchange(request, timeout_s)
        finally:
            is_worn = not process.is_alive or self._num_exchanges >= _MAX_EXCHANGES
            if is_worn and not self._is_closed:
                logger.info("a child process is replaced after %d requests", self._num_exchanges)
                await process.kill()
                self.renew()

    async def pid(self) -> int:
        """Raises ChildFailed."""
        return (await self._process()).pid

    async def _process(self) -> ChildProcess:
        if self._starting is None:
            self.renew()
        assert self._starting is not None
        try:
            return await asyncio.shield(self._starting)
        except OSError as exc:
            self.renew()
            cause = f"no process for it could be started: {exc.strerror}"
            raise ChildFailed(cause, is_own_fault=False) from exc

    async def close(self) -> None:
        """Whoever is being answered fails."""
        self._is_closed = True
        if self._starting is not None:
            with suppress(OSError):  # it could not be started: there is nothing to end
                await (await self._starting).kill()


class ChildPool:
    """An exchange costs about a millisecond; a process start, a hundred, in the background."""

    def __init__(self, command: ChildCommand, num_processes: int, semaphore: FairSemaphore) -> None:
        """The semaphore has as many permits as there are processes."""
        self._semaphore = semaphore
        self._children = [Child(command) for _ in range(num_processes)]
        self._idle = list(self._children)

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    def start(self) -> None:
        """Ahead of the first requests; else they start what they need."""
        for child in self._children:
            child.renew()

    async def close(self) -> None:
        for child in self._children:
            await child.close()

    async def pids(self) -> list[int]:
        """Raises ChildFailed."""
        return [await child.pid() for child in self._children]

    @asynccontextmanager
    async def child(
        self, tenant: str, is_preferred: Callable[[Child], bool] = lambda _child: True
    ) -> AsyncIterator[Child]:
        """One to ask, and to be asked by nobody else meanwhile. Raises NotServed when its turn
        does not come soon."""
        await self._semaphore.acquire(tenant)
        child = next(filter(is_preferred, reversed(self._idle)), self._idle[-1])
        self._idle.remove(child)
        try:
            yield child
        finally:
            self._idle.append(child)
            self._semaphore.release()


def _seen(task: "asyncio.Task[ChildProcess]") -> None:
    if not task.cancelled():
        task.exception()
