"""A standby process: waits until it is told which worker it is, and is that worker from then on."""

import os
import socket

from libs.common.process.prctl import set_process_name
from services.worker.frames.frames import Origin
from services.worker.frames.process_names import STANDBY, WORKER
from services.worker.frames.standby import BOUND, Binding, ready_packet, receive_binding
from services.worker.runtime import worker_process
from services.worker.runtime.parent_watch import die_with_agent

_STDERR = 2


def stand_by(channel: socket.socket, agent_pid: int) -> None:
    """Until the agent goes, or the worker that this has become has ended."""
    die_with_agent(agent_pid)
    os.setsid()  # as of any worker, its group is its own
    set_process_name(STANDBY)
    with channel:
        channel.send(ready_packet())
        binding = receive_binding(channel)
        if binding is None:
            return
        _bind(binding)
        channel.send(BOUND)
    worker_process.run(socket.socket(fileno=binding.worker_end), Origin.STANDBY)


def _bind(binding: Binding) -> None:
    set_process_name(WORKER)
    os.dup2(binding.stderr, _STDERR)
    os.close(binding.stderr)
    os.environ.clear()
    os.environ.update(binding.environment)  # the driver reads which GPU is its when first used
