"""The worker process: `python -m services.worker.runtime <descriptor> <agent pid>`.

Started by the agent's launcher with one end of a socketpair. Imports are ordered by cost: the
units are mapped by a thread while the main thread imports torch, and the main thread then owns the
engine. Nothing that speaks on a network is imported, and there are no credentials here. SIGTERM
keeps its default effect: there is no state to save, and the kernel ends the leases.
"""

import gc
import socket
import sys
import time
import traceback
from pathlib import Path

from services.worker.channel import Channel
from services.worker.errors import WorkerError
from services.worker.frames import Registered, StartWorker
from services.worker.lifeline import die_with_agent
from services.worker.startsteps import StartSteps
from services.worker.unitfeed import UnitFeed


def main() -> None:
    descriptor, agent_pid = int(sys.argv[1]), int(sys.argv[2])
    die_with_agent(agent_pid)
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        serve(channel, channel.start_frame())
    except WorkerError as exc:
        channel.fail(str(exc))
    except Exception as exc:  # the last line of defence: the agent is told what it was
        traceback.print_exc()
        channel.fail(f"{type(exc).__name__}: {exc}")


def serve(channel: Channel, start: StartWorker) -> None:
    """Never returns. Raises WorkerError when the stage cannot be built or run."""
    channel.listen()
    steps = StartSteps(channel.send)
    steps.ended("spawn", time.time())
    channel.send(Registered(address=None, public_key=None))  # a whole model has no neighbours
    timeout_s = start.start_timeout_ms / 1000
    feed = UnitFeed(
        Path(start.fetcher_socket),
        start.worker_id,
        deadline_s=time.monotonic() + timeout_s,
        steps=steps,
        failed=channel.fail,
    )
    feed.start()
    gc.disable()  # the import makes many objects and no garbage: saves a tenth of its time
    with steps.step("import"):
        import torch

        from services.worker.assembly import build_engine
        from services.worker.serving import Serving
    with steps.step("build_engine"):
        engine = build_engine(start, feed)
    gc.freeze()  # what is here stays, no collection has to look at it again
    gc.enable()
    torch.set_num_threads(start.cores)
    Serving(engine, channel, steps).run()


if __name__ == "__main__":
    main()
