"""Warm template processes, replaced when they die or have rendered often enough."""

import asyncio
import logging
from contextlib import suppress
from typing import Any, Self

from libs.common.reasons import Reason
from services.gateway.errors import TemplateFailed
from services.gateway.fair_semaphore import FairSemaphore
from services.gateway.text.template_process import TemplateProcess

logger = logging.getLogger(__name__)

_MAX_RENDERS = 10_000  # then a fresh process: what a template leaves behind does not add up


class TemplatePool:
    """A render costs about a millisecond; a process start, a hundred, happens in the background."""

    def __init__(self, num_processes: int) -> None:
        self._num_processes = num_processes
        self._semaphore = FairSemaphore(
            num_processes, what="chat templates are rendered", reason=Reason.TEMPLATE_BUSY
        )
        self._idle: list[_Slot] = []
        self._slots: list[_Slot] = []

    async def __aenter__(self) -> Self:
        self._slots = [_Slot() for _ in range(self._num_processes)]
        for slot in self._slots:
            slot.renew()
            self._idle.append(slot)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        for slot in self._slots:
            await slot.close()

    async def render(self, template: str, variables: dict[str, Any], tenant: str) -> str:
        """Raises TemplateFailed, or NotServed when its turn does not come soon."""
        await self._semaphore.acquire(tenant)
        slot = self._idle.pop()
        try:
            return await slot.render(template, variables)
        finally:
            self._idle.append(slot)
            self._semaphore.release()


class _Slot:
    """One place in the pool; the process in it changes."""

    def __init__(self) -> None:
        self._starting: asyncio.Task[TemplateProcess] | None = None
        self._num_renders = 0

    def renew(self) -> None:
        self._starting = asyncio.create_task(TemplateProcess.start())
        self._num_renders = 0

    async def render(self, template: str, variables: dict[str, Any]) -> str:
        process = await self._process()
        self._num_renders += 1
        try:
            return await process.render(template, variables)
        finally:
            if not process.is_alive or self._num_renders >= _MAX_RENDERS:
                logger.info("a template process is replaced after %d renders", self._num_renders)
                await process.kill()
                self.renew()

    async def _process(self) -> TemplateProcess:
        assert self._starting is not None
        try:
            return await asyncio.shield(self._starting)
        except OSError as exc:
            self.renew()
            raise TemplateFailed(f"no process for it could be started: {exc.strerror}") from exc

    async def close(self) -> None:
        if self._starting is not None:
            with suppress(OSError):  # it could not be started: there is nothing to end
                await (await self._starting).kill()
