"""The zygote: one process per node that has imported torch, and forks standby processes.

It has one thread, so that a fork copies all of it, and has not touched the device, which no fork
could share. A standby is forked twice over: its parent ends at once, and the kernel gives it to
the agent, which adopts orphans. So a worker is the agent's child, however it was started, and does
not mind the end of the zygote.
"""

import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from libs.common.process.prctl import set_process_name
from services.worker.frames.process_names import ZYGOTE
from services.worker.runtime.parent_watch import die_with_agent
from services.worker.runtime.standby.preload import preload
from services.worker.runtime.standby.process import stand_by


def run(descriptor: int, agent_pid: int) -> None:
    """Until the agent closes its end; each packet asks for one standby, and brings its socket."""
    die_with_agent(agent_pid)
    set_process_name(ZYGOTE)
    with socket.socket(fileno=descriptor) as control:
        preload()
        while _serve(control, agent_pid):
            pass


def _serve(control: socket.socket, agent_pid: int) -> bool:
    """One request; False when there will be none."""
    packet, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    if not packet:
        return False
    with socket.socket(fileno=descriptors[0]) as channel:
        try:
            _fork_standby(control, channel, agent_pid)
        except OSError as exc:  # its socket is closed without a word: that is the answer
            print(f"no standby process could be forked: {exc}", file=sys.stderr, flush=True)
    return True


def _fork_standby(control: socket.socket, channel: socket.socket, agent_pid: int) -> None:
    adopted, gate = os.pipe()  # its end tells the standby that the agent is its parent now

    def become_standby() -> None:
        control.close()
        os.close(gate)
        os.read(adopted, 1)
        os.close(adopted)
        stand_by(channel, agent_pid)

    try:
        os.waitpid(_fork(lambda: _fork(become_standby)), 0)
    finally:
        os.close(adopted)
        os.close(gate)


def _fork(work: Callable[[], object]) -> int:
    """The id of a child that does `work` and ends. Raises OSError."""
    pid = os.fork()
    return pid if pid else _work(work)


def _work(work: Callable[[], object]) -> NoReturn:
    """In the child, from which nothing may return into the zygote's loop."""
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # the zygote's own frames are above: they must not see it
        traceback.print_exc()
    finally:
        os._exit(code)
