"""Pipelines of processes on this machine, one thread each, over the real data plane."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.engine.engines import options, warmed
from benchmarks.engine.model import DemoModel
from benchmarks.engine.stage import TIMEOUT_S, place_of, ring_of
from services.worker.engine.engine import StageEngine
from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.watch import Neighbours

Process = subprocess.Popen[str]


@contextmanager
def pipeline(
    model: DemoModel, model_file: Path, num_stages: int, security: Security
) -> Iterator[StageEngine]:
    """The entry stage's engine, everything loaded and packed; layers are shared out equally."""
    num_layers = model.config.num_layers
    cuts = [num_layers * index // num_stages for index in range(num_stages + 1)]
    with ExitStack() as stack:
        plane = stack.enter_context(DataPlane(stage=0, host="127.0.0.1", security=security))
        followers = [
            stack.enter_context(_follower(model_file, index, cuts, security))
            for index in range(1, num_stages)
        ]
        _introduce(plane, followers)
        ring = ring_of(plane, model.config.hidden_size)
        entry = StageEngine(model.config, model.weights, options(), place_of(0, cuts), ring)
        yield warmed(entry, is_packed=True)


@contextmanager
def _follower(path: Path, index: int, cuts: list[int], security: Security) -> Iterator[Process]:
    layers = ",".join(map(str, cuts))
    command = [sys.executable, "-m", "benchmarks.engine.stage", str(path), str(index), layers]
    pipe = subprocess.PIPE
    with Process([*command, security], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _introduce(plane: DataPlane, followers: list[Process]) -> None:
    stages = [Neighbour(0, plane.address, plane.keys.public)]
    for index, process in enumerate(followers, start=1):
        assert process.stdout is not None
        stages.append(Neighbour(index, *process.stdout.readline().split()))
    for index, process in enumerate(followers, start=1):
        assert process.stdin is not None
        for other in (stages[index - 1], stages[(index + 1) % len(stages)]):
            process.stdin.write(f"{other.stage} {other.address} {other.public_key}\n")
        process.stdin.flush()
    plane.connect(Neighbours(stages[-1], stages[1]))
    plane.wait_linked(TIMEOUT_S)
