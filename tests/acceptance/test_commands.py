"""`demo` and `up` as a person runs them: each from whatever the one before left behind."""

import asyncio
import os
import shlex
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import httpx
import pytest

from deploy.local.demo_model import ensure_demo_model
from deploy.local.processes.orphans import has_variable, running_pids
from deploy.local.services import STATE_VARIABLE
from deploy.local.state.state_folder import StateFolder

pytestmark = pytest.mark.timeout(600)
_LINE_TIMEOUT_S = 240.0  # the first import converts the model


class Command:
    """A running `python -m deploy.local …` whose output is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.output = ""

    async def until(self, text: str) -> str:
        """The first line from now on that contains `text`."""
        while text not in (line := await self._line()):
            assert line, f"it ended without {text!r}:\n{self.output}"
        return line

    async def rest(self) -> int:
        """Reads to the end; the exit code."""
        while await self._line():
            pass
        return await self._process.wait()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def _line(self) -> str:
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), _LINE_TIMEOUT_S)
        self.output += line.decode()
        return line.decode()


@asynccontextmanager
async def running(state: Path, *arguments: str) -> AsyncIterator[Command]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "deploy.local", *arguments, "--nodes", "2"),
        env={**os.environ, "HYDRASERVE_STATE": str(state), "PYTHONUNBUFFERED": "1"},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    command = Command(process)
    try:
        yield command
    finally:
        if process.returncode is None:
            process.kill()
            await command.rest()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh state folder, but for the model's file, which takes a network to get."""
    folder = tmp_path_factory.mktemp("state").resolve()
    source = ensure_demo_model(StateFolder.from_environment().sources)
    (folder / "sources").mkdir()
    shutil.copy(source, folder / "sources")
    return folder


def left_behind(state: Path) -> list[int]:
    return list(running_pids(has_variable(STATE_VARIABLE, str(state))))


async def test_the_demo_tells_its_story_also_after_one_that_was_killed(state: Path) -> None:
    async with running(state, "demo") as killed:
        await killed.until("IMPORTING")
        killed.send(signal.SIGKILL)
        await killed.rest()

    async with running(state, "demo") as demo:
        code = await demo.rest()

    assert code == 0, demo.output
    assert demo.output.count("The capital of France is Paris.") == 2
    assert "over the 2 links of these nodes" in demo.output
    assert demo.output.count("critical path: ") == 2
    assert "269 MB of weights, 0 MB of them from host caches" in demo.output
    assert "269 MB of weights, 269 MB of them from host caches" in demo.output
    assert "0 worker processes" in demo.output
    assert left_behind(state) == []


async def perform(curl_line: str) -> str:
    """What curl would be answered: not every machine has it."""
    arguments = shlex.split(curl_line.replace("\\\n", " "))
    (url,) = (argument for argument in arguments if argument.startswith("http"))
    headers = [value for flag, value in pairwise(arguments) if flag == "-H"]
    (body,) = (value for flag, value in pairwise(arguments) if flag == "-d")
    async with httpx.AsyncClient(timeout=_LINE_TIMEOUT_S, trust_env=False) as client:
        fields = dict(header.split(": ", 1) for header in headers)
        response = await client.post(url, headers=fields, content=body)
    return response.raise_for_status().text


async def test_up_stays_with_a_curl_line_that_works_until_ctrl_c(state: Path) -> None:
    async with running(state, "up") as up:
        curl = [await up.until("curl"), await up.until("-H"), await up.until("-d")]
        answer = await perform("".join(curl))
        up.send(signal.SIGINT)
        code = await up.rest()

    assert code == 0, up.output
    assert "data: [DONE]" in answer
    assert left_behind(state) == []
