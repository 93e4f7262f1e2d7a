"""A follower in a process of its own: `python -m … <model file> <index> <layers> <security>`.

Layers are the starts of all stages and the end of the last. It prints its address and key, reads
those of its previous and next stage, and runs until it is killed.
"""

import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import torch

from benchmarks.engine.engines import DTYPE, options
from services.worker.engine.execution.follower import Follower
from services.worker.engine.model.place import Place
from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.errors import NeighbourLost
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.ring import SocketRing
from services.worker.runtime.dataplane.watch import Neighbours
from tests.support.weights import PackedWeights

TIMEOUT_S = 60.0


def main() -> None:
    path, index, cuts, security = sys.argv[1:]
    torch.set_num_threads(1)
    place = place_of(int(index), [int(cut) for cut in cuts.split(",")])
    model = torch.load(path, weights_only=False, mmap=True)  # written by the parent process
    with tempfile.TemporaryDirectory() as folder:
        weights = PackedWeights(_of_stage(model["state"], place.layers), Path(folder))
    plane = DataPlane(stage=place.index, host="127.0.0.1", security=Security(security))
    print(plane.address, plane.keys.public, flush=True)
    plane.connect(Neighbours(_read_neighbour(), _read_neighbour()))
    plane.wait_linked(TIMEOUT_S)
    follower = Follower(
        model["config"], weights, options(), place, ring_of(plane, model["config"].hidden_size)
    )
    for _ in follower.load_units():
        continue
    with suppress(NeighbourLost):  # the measurement is over
        while True:
            follower.step(0.0 if follower.optimize_step() else 1.0)


def place_of(index: int, cuts: list[int]) -> Place:
    ranges = [range(start, end) for start, end in pairwise(cuts)]
    return Place(index, len(ranges), ranges[index])


def ring_of(plane: DataPlane, hidden_size: int) -> SocketRing:
    cpu = torch.device("cpu")
    return SocketRing(plane, hidden_size, DTYPE, cpu, link_timeout_s=TIMEOUT_S)


def _of_stage(state: Mapping[str, torch.Tensor], layers: range) -> dict[str, torch.Tensor]:
    prefixes = tuple(f"model.layers.{index}." for index in layers)
    return {name: tensor for name, tensor in state.items() if name.startswith(prefixes)}


def _read_neighbour() -> Neighbour:
    stage, address, public_key = sys.stdin.readline().split()
    return Neighbour(int(stage), address, public_key)


if __name__ == "__main__":
    main()
