"""Ending a command by a signal."""

import asyncio
import signal
import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, sys
from deploy.local.processes.runner import run_until_signal

async def command():
    try:
        print("up", flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("cleaned up", flush=True)

sys.exit(run_until_signal(command()))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_a_command_cleanly_with_exit_code_0(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SCRIPT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert await process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert await process.stdout.read() == b"cleaned up\n"
        assert await process.wait() == 0
