"""How long one hop between two stages takes: `python -m benchmarks.hop`.

Two processes on this machine, hidden states of the demo model (576 bfloat16 values per row), half a
round trip each; with and without encryption.
"""

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from statistics import median, quantiles

from services.worker.engine.execution.microbatch import MicroBatch, Piece
from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.watch import Neighbours
from services.worker.runtime.dataplane.wire import Hop

ROW_BYTES = 576 * 2
NUM_WARM_UP, NUM_HOPS = 100, 1_000
TIMEOUT_S = 30.0


def main() -> None:
    for security in Security:
        with echoing(security) as plane:
            for num_rows in (1, 16, 512):
                times_s = hop_times_s(plane, num_rows, NUM_HOPS)
                p99_s = quantiles(times_s, n=100)[98]
                print(
                    f"{security:8} {num_rows:4} rows {num_rows * ROW_BYTES:7} bytes  "
                    f"median {median(times_s) * 1e6:6.0f} us  p99 {p99_s * 1e6:6.0f} us"
                )


@contextmanager
def echoing(security: Security) -> Iterator[DataPlane]:
    """A stage whose only neighbour, another process, sends back whatever comes."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    other = context.Process(target=_echo, args=(theirs, security), daemon=True)
    other.start()
    try:
        with DataPlane(stage=0, host="127.0.0.1", security=security) as plane:
            _link(plane, 1, ours)
            yield plane
    finally:
        other.kill()
        other.join()


def _link(plane: DataPlane, other_stage: int, pipe: Connection) -> None:
    pipe.send((plane.address, plane.keys.public))
    other = Neighbour(other_stage, *pipe.recv())
    plane.connect(Neighbours(other, other))
    plane.wait_linked(TIMEOUT_S)


def hop_times_s(plane: DataPlane, num_rows: int, num_hops: int) -> list[float]:
    """Half of each round trip of so many rows to an echo."""
    batch = MicroBatch(0, (), (Piece(0, 0, num_rows, True),))
    hidden = memoryview(bytes(num_rows * ROW_BYTES))
    times_s = []
    for _ in range(NUM_WARM_UP + num_hops):
        started_s = time.perf_counter()
        plane.send(batch, hidden, ROW_BYTES)
        assert plane.receive(TIMEOUT_S) is not None
        times_s.append((time.perf_counter() - started_s) / 2)
    return times_s[NUM_WARM_UP:]


def _echo(pipe: Connection, security: Security) -> None:
    plane = DataPlane(stage=1, host="127.0.0.1", security=security)
    _link(plane, 0, pipe)
    while True:
        if isinstance(hop := plane.receive(TIMEOUT_S), Hop):
            plane.send(hop.batch, hop.hidden, hop.row_bytes)


if __name__ == "__main__":
    main()
