"""Waiting for a child to become ready, with a deadline and its own words when it does not."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from deploy.local.errors import StartFailed
from deploy.local.processes.process import ChildProcess

Probe = Callable[[], Awaitable[bool]]
_PROBE_PERIOD_S = 0.02


async def wait_until_ready(child: ChildProcess, probe: Probe, timeout_s: float) -> None:
    """Returns once `probe` says so. Raises StartFailed when the child ends or the time is over.

    A probe answers within its own, shorter, deadline and raises nothing for "not yet".
    """
    deadline = time.monotonic() + timeout_s
    while not await probe():
        if child.has_exited():
            code = await child.wait()
            raise StartFailed(child.spec.name, f"ended with exit code {code}", child.log_tail())
        if time.monotonic() > deadline:
            reason = f"was not ready within {timeout_s:g} s"
            raise StartFailed(child.spec.name, reason, child.log_tail())
        await asyncio.sleep(_PROBE_PERIOD_S)
