"""Running a command until it ends or somebody asks it to."""

import asyncio
import signal
from collections.abc import Coroutine


def run_until_signal(command: Coroutine[None, None, int]) -> int:
    """The command's exit code; 0 when SIGINT, SIGTERM or SIGHUP ended it, after its clean-up.

    A second signal ends the clean-up too: the kernel then ends the children, and the next start
    removes the rest.
    """
    return asyncio.run(_until_signal(command))


async def _until_signal(command: Coroutine[None, None, int]) -> int:
    task = asyncio.ensure_future(command)
    loop = asyncio.get_running_loop()

    def end() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end)
    try:
        return await task
    except asyncio.CancelledError:
        return 0
