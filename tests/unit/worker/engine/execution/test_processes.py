"""A pipeline of real processes over the real data plane."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import torch

from services.worker.engine.engine import StageEngine
from services.worker.engine.model.place import Place
from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.errors import NeighbourLost
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.ring import SocketRing
from services.worker.runtime.dataplane.watch import Neighbours
from tests.support.equality import TokenEquality
from tests.unit.worker.engine.stage_process import PATIENCE_S, options, save_model
from tests.unit.worker.engine.test_generation import greedy, near_tie
from tests.unit.worker.engine.tiny import Tiny, generate

CUTS = "0,1,1,3"  # three stages, the middle one without layers
NUM_STAGES = 3

Process = subprocess.Popen[str]


@contextmanager
def followers(path: Path, security: Security) -> Iterator[list[Process]]:
    module = "tests.unit.worker.engine.stage_process"
    with ExitStack() as stack:
        processes = []
        for index in range(1, NUM_STAGES):
            command = [sys.executable, "-m", module, str(path), str(index), CUTS, security]
            pipes = subprocess.PIPE
            process = Process(command, stdin=pipes, stdout=pipes, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        yield processes


def introduce(plane: DataPlane, processes: list[Process]) -> None:
    stages = [Neighbour(0, plane.address, plane.keys.public)]
    for index, process in enumerate(processes, start=1):
        assert process.stdout is not None
        address, public_key = process.stdout.readline().split()
        stages.append(Neighbour(index, address, public_key))
    for index, process in enumerate(processes, start=1):
        assert process.stdin is not None
        for other in (stages[index - 1], stages[(index + 1) % NUM_STAGES]):
            process.stdin.write(f"{other.stage} {other.address} {other.public_key}\n")
        process.stdin.flush()
    plane.connect(Neighbours(stages[-1], stages[1]))
    plane.wait_linked(PATIENCE_S)


@pytest.mark.parametrize("security", Security)
def test_three_processes_give_the_tokens_of_one_and_fail_together(
    tiny: Tiny, tmp_path: Path, security: Security
) -> None:
    path, equality = tmp_path / "model", TokenEquality()
    save_model(path, tiny.config, dict(tiny.reference.state_dict()))
    requests = [greedy(f"r{n}", tiny.prompt(7 * n + 1), 20) for n in range(6)]
    with (
        DataPlane(stage=0, host="127.0.0.1", security=security) as plane,
        followers(path, security) as processes,
    ):
        introduce(plane, processes)
        ring = SocketRing(
            plane,
            tiny.config.hidden_size,
            torch.float32,
            torch.device("cpu"),
            link_timeout_s=PATIENCE_S,
        )
        engine = StageEngine(
            tiny.config, tiny.weights, options(), Place(0, NUM_STAGES, range(0, 1)), ring
        )

        results = generate(engine, *requests)

        for request in requests:
            expected = generate(tiny.engine(), request)[request.request_id].token_ids
            tokens = results[request.request_id].token_ids
            tie = near_tie(tiny, request, expected)
            equality.compare(request.request_id, tokens, expected, tie)
        equality.check()

        processes[-1].kill()
        engine.add_request(greedy("lost", tiny.prompt(5), 200))
        with pytest.raises(NeighbourLost, match="stage 0 lost its neighbour"):
            while True:
                engine.step()
