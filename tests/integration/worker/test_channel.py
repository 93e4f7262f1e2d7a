"""A worker process that fails, with the frames that its agent gets of it."""

import asyncio
import socket
import sys

from libs.common.cause_words import words
from services.worker.agent.processes.frame_connection import FrameConnection
from services.worker.frames.frames import StatsChanged, ToAgent, WorkerFailed

# Both links of a stage and its engine may notice the same loss at the same moment.
FAILING_THREADS = """
import socket, sys, threading
from libs.common.causes import Cause, CauseKind
from services.worker.runtime.channel import Channel

channel = Channel(socket.socket(fileno=int(sys.argv[1])))
together = threading.Barrier(8)

def fail(number):
    together.wait()
    channel.fail(Cause.of(CauseKind.ENGINE_FAILED, detail=f"cause {number}"))

for number in range(8):
    threading.Thread(target=fail, args=(number,)).start()
"""

# Whatever the engine's thread is blocked in: the channel's threads go on.
HANGING_ENGINE = """
import socket, sys, threading
from services.worker.runtime.channel import Channel

channel = Channel(socket.socket(fileno=int(sys.argv[1])))
for turn in range(3):
    channel.progress.note()
threading.Event().wait()
"""


async def test_signs_of_life_say_how_far_the_engine_came_while_it_hangs() -> None:
    agent_end, worker_end = socket.socketpair()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HANGING_ENGINE, str(worker_end.fileno())),
        pass_fds=(worker_end.fileno(),),
    )
    worker_end.close()
    connection = await FrameConnection.open(agent_end)
    signs: list[ToAgent] = []

    async with asyncio.timeout(30):
        async for frame in connection.frames():
            signs.append(frame)
            if len(signs) == 2:
                break

    await connection.close()  # which ends the process
    await asyncio.wait_for(process.wait(), 10)
    assert [s.progress for s in signs if isinstance(s, StatsChanged)] == [3, 3]


async def test_a_worker_that_fails_in_several_threads_says_so_once() -> None:
    agent_end, worker_end = socket.socketpair()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FAILING_THREADS, str(worker_end.fileno())),
        pass_fds=(worker_end.fileno(),),
        stderr=asyncio.subprocess.PIPE,
    )
    worker_end.close()
    connection = await FrameConnection.open(agent_end)

    frames: list[ToAgent] = [frame async for frame in connection.frames()]

    (failed,) = frames
    _, said = await asyncio.wait_for(process.communicate(), 10)
    assert isinstance(failed, WorkerFailed)
    assert (process.returncode, said.decode()) == (1, f"{words(failed.cause)}\n")
    await connection.close()
