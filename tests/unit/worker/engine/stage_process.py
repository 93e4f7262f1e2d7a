"""A follower in a process of its own: `python -m … <model file> <index> <layers> <security>`.

Layers are the starts of all stages and the end of the last: 0,1,3 are two stages. It prints its
address and key, reads those of its previous and next stage, and runs until it is killed.
"""

import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import torch

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.execution.follower import Follower
from services.worker.engine.model.place import Place
from services.worker.engine.options import EngineOptions
from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.ring import SocketRing
from services.worker.runtime.dataplane.watch import Neighbours
from tests.support.weights import PackedWeights

PATIENCE_S = 30.0
CPU = torch.device("cpu")


def save_model(path: Path, config: ModelConfig, state: dict[str, torch.Tensor]) -> None:
    torch.save({"config": config, "state": state}, path)


def options() -> EngineOptions:
    return EngineOptions(
        dtype=torch.float32,
        device=CPU,
        kv_bytes=0,
        kv_tokens=300,
        max_running=8,
        max_context_tokens=256,
        eos_token_ids=frozenset({1}),
        max_step_tokens=48,
    )


def read_neighbour() -> Neighbour:
    stage, address, public_key = sys.stdin.readline().split()
    return Neighbour(int(stage), address, public_key)


def main() -> None:
    path, index, cuts, security = sys.argv[1:]
    ranges = [range(start, end) for start, end in pairwise(map(int, cuts.split(",")))]
    place = Place(int(index), len(ranges), ranges[int(index)])
    plane = DataPlane(stage=place.index, host="127.0.0.1", security=Security(security))
    print(plane.address, plane.keys.public, flush=True)
    torch.set_num_threads(1)
    model = torch.load(path, weights_only=False)  # made by the test itself
    config: ModelConfig = model["config"]
    with tempfile.TemporaryDirectory() as folder:
        weights = PackedWeights(model["state"], Path(folder))
    plane.connect(Neighbours(read_neighbour(), read_neighbour()))
    plane.wait_linked(PATIENCE_S)
    ring = SocketRing(plane, config.hidden_size, torch.float32, CPU, link_timeout_s=PATIENCE_S)
    follower = Follower(config, weights, options(), place, ring)
    while True:
        follower.step(timeout_s=1.0)


if __name__ == "__main__":
    main()
