"""A stage in a process of its own: `python -m … <stage> <security>`, a line each way to introduce.

It prints its address and key, reads those of its only neighbour, and sends back what it receives.
"""

import sys

from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.watch import Neighbours
from services.worker.runtime.dataplane.wire import Hop
from tests.unit.worker.dataplane.ring import HOST, PATIENCE_S


def main() -> None:
    stage, security = int(sys.argv[1]), Security(sys.argv[2])
    plane = DataPlane(stage=stage, host=HOST, security=security)
    print(plane.address, plane.keys.public, flush=True)
    other_stage, address, public_key = sys.stdin.readline().split()
    other = Neighbour(int(other_stage), address, public_key)
    plane.connect(Neighbours(other, other))
    plane.wait_linked(PATIENCE_S)
    print("linked", flush=True)
    while True:
        hop = plane.receive(timeout_s=1.0)
        if isinstance(hop, Hop):
            plane.send(hop.batch, hop.hidden, hop.row_bytes)


if __name__ == "__main__":
    main()
