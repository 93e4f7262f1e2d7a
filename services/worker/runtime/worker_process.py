"""What a worker process does, from its start to its end.

Started by the agent's launcher with one end of a socketpair, or become of a standby, which has
imported everything already. Imports are ordered by cost: threads map the units, and copy them to a
GPU where there is one, while the main thread imports torch and then owns the engine. A stage of
several binds its data socket before that, so that its neighbours hear of it while it imports. The
control plane's bus is not imported, and there are no credentials. SIGTERM keeps its default effect:
there is no state to save, and the kernel ends the leases.
"""

import gc
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from libs.common.process.prctl import set_process_name
from libs.common.weights.unitclient import WantedUnits
from services.worker.errors import WorkerError
from services.worker.frames.frames import Origin, Registered, StartWorker
from services.worker.frames.process_names import WORKER
from services.worker.runtime.channel import Channel
from services.worker.runtime.failure_causes import cause_of
from services.worker.runtime.parent_watch import die_with_agent
from services.worker.runtime.start_steps import StartSteps
from services.worker.runtime.unit_mapper import UnitMapper
from services.worker.runtime.worker_parts import WorkerParts

if TYPE_CHECKING:
    from services.worker.runtime.cuda.loading import DeviceLoading
    from services.worker.runtime.neighbours import NeighbourConnections


def main() -> None:
    descriptor, agent_pid = int(sys.argv[1]), int(sys.argv[2])
    die_with_agent(agent_pid)
    set_process_name(WORKER)
    run(socket.socket(fileno=descriptor), Origin.LAUNCHED)


def run(worker_end: socket.socket, origin: Origin) -> None:
    """Be the worker that the first frame describes, until the process ends."""
    channel = Channel(worker_end)
    try:
        serve(channel, channel.start_frame(), origin)
    except WorkerError as exc:
        channel.fail(cause_of(exc))
    except Exception as exc:  # the last line of defence: the agent is told what it was
        traceback.print_exc()
        channel.fail(cause_of(exc))


def serve(channel: Channel, start: StartWorker, origin: Origin) -> None:
    """Never returns. Raises WorkerError when the stage cannot be built or run."""
    steps = StartSteps(channel.send)
    steps.ended("spawn", time.time(), origin)
    timeout_s = start.start_timeout_ms / 1000
    mapper = UnitMapper(
        Path(start.fetcher_socket),
        WantedUnits(start.manifest_digest, start.unit_digests),
        deadline_s=time.monotonic() + timeout_s,
        steps=steps,
        failed=lambda error: channel.fail(cause_of(error)),
    )
    mapper.start()
    parts = WorkerParts(
        start,
        channel,
        steps,
        mapper,
        loading=load_device(start, mapper, steps, channel),
        neighbours=register(start, channel, steps),
    )
    gc.disable()  # the import makes many objects and no garbage: saves a tenth of its time
    with steps.step("import"):
        import torch

        from services.worker.runtime.assembly import build_loop
    with steps.step("build_engine"):
        loop = build_loop(parts)
    gc.freeze()  # what is here stays, no collection has to look at it again
    gc.enable()
    torch.set_num_threads(start.cores)
    if start.device == "cpu":
        most = max(start.cores, start.max_threads or 0)
        channel.compute.begin(start.cores, most, torch.set_num_threads)
    loop.run()


def load_device(
    start: StartWorker, mapper: UnitMapper, steps: StartSteps, channel: Channel
) -> "DeviceLoading | None":
    """Begin to fill the GPU; None on CPU, where shared memory is all that the engine needs."""
    if start.device == "cpu":
        return None
    from services.worker.runtime.cuda.start import start_loading

    return start_loading(start, mapper, steps, lambda error: channel.fail(cause_of(error)))


def register(
    start: StartWorker, channel: Channel, steps: StartSteps
) -> "NeighbourConnections | None":
    """Tell the agent where neighbours reach this stage, and listen. None for a whole model."""
    if start.num_stages == 1:
        channel.send(Registered(address=None, public_key=None))
        channel.listen()
        return None
    with steps.step("bind"):
        # A whole model does not load ZeroMQ.
        from services.worker.runtime.neighbours import NeighbourConnections

        neighbours = NeighbourConnections(start, channel, steps)
    channel.send(neighbours.registered)
    neighbours.expect_neighbours()
    channel.listen(neighbours.connect)
    return neighbours
