"""Child processes are replaced as they die, and nobody pays for one that died idle."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.gateway.children.child_pool import Child
from services.gateway.children.child_process import ChildCommand, ChildProcess
from services.gateway.errors import ChildFailed

# Answers with its process id, or ends as it is told.
SCRIPT = """
import os, signal, struct, sys
while header := sys.stdin.buffer.read(4):
    request = sys.stdin.buffer.read(struct.unpack(">I", header)[0])
    if request.startswith(b"die "):
        os.kill(os.getpid(), int(request[4:]))
        signal.pause()
    reply = str(os.getpid()).encode()
    sys.stdout.buffer.write(struct.pack(">I", len(reply)) + reply)
    sys.stdout.buffer.flush()
"""


@pytest_asyncio.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    script = tmp_path / "child.py"
    script.write_text(SCRIPT)
    child = Child(ChildCommand(script))
    yield child
    await child.close()


async def test_a_request_that_meets_a_process_which_died_idle_is_asked_of_a_fresh_one(
    child: Child,
) -> None:
    first = await child.exchange(b"", 10)
    os.kill(int(first), signal.SIGKILL)

    second = await child.exchange(b"", 10)

    assert second != first


async def test_what_dies_with_its_own_request_twice_is_not_asked_a_third_time(
    child: Child,
) -> None:
    with pytest.raises(ChildFailed, match="process died"):
        await child.exchange(b"die 9", 10)

    assert await child.exchange(b"", 10), "the next one works"


async def test_closing_ends_what_is_asked_and_starts_nothing_anew(child: Child) -> None:
    pid = int(await child.exchange(b"", 10))
    asking = asyncio.create_task(child.exchange(b"die %d" % signal.SIGCONT, 10))
    await asyncio.sleep(0)

    await child.close()

    with pytest.raises(ChildFailed):
        await asking
    assert await child.pid() == pid


@pytest.mark.parametrize("number", [signal.SIGXCPU, signal.SIGABRT])
async def test_a_limit_that_a_request_ran_into_ends_it_at_once(child: Child, number: int) -> None:
    child.held.add("something")

    with pytest.raises(ChildFailed) as caught:
        await child.exchange(b"die %d" % number, 10)

    assert caught.value.is_own_fault
    assert not child.held, "what the process kept is gone with it"


async def test_what_python_itself_ends_at_is_not_asked_again(child: Child) -> None:
    with pytest.raises(ChildFailed) as caught:
        await child.exchange(b"die of an exception", 10)

    assert caught.value.is_own_fault


async def test_one_that_does_not_answer_in_time_is_killed(child: Child) -> None:
    with pytest.raises(ChildFailed, match=r"longer than 0\.2 s"):
        await child.exchange(b"die %d" % signal.SIGCONT, 0.2)

    assert await asyncio.wait_for(child.exchange(b"", 10), 20)


async def test_a_child_finds_this_projects_code_where_it_is_not_installed(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(SCRIPT.replace("str(os.getpid())", "f'{sys.path[0]} {sys.argv[1:]}'"))
    child = Child(ChildCommand(script, arguments=("1", "x")))

    reply = (await child.exchange(b"", 10)).decode()
    await child.close()

    assert reply == f"{Path(__file__).parents[4]} ['1', 'x']"


async def test_one_whose_killer_was_cancelled_is_never_asked_again(tmp_path: Path) -> None:
    """Its answer may have come meanwhile, and would be taken for the next request's."""
    (tmp_path / "child.py").write_text(SCRIPT)
    process = await ChildProcess.start(ChildCommand(tmp_path / "child.py"))
    asking = asyncio.create_task(process.exchange(b"die %d" % signal.SIGCONT, 10))
    await asyncio.sleep(0)
    for _ in range(2):  # the second time while it waits for the end of the process
        asking.cancel()
        await asyncio.sleep(0)

    assert not process.is_alive

    await process.kill()
