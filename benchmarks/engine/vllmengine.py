"""vLLM's engine beside ours: the same prompts, dtype and number of threads, one load."""

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO

from benchmarks import vllmenv
from benchmarks.engine.engines import MAX_RUNNING, request
from benchmarks.engine.measures import DECODED_TOKENS, PREFILL_TOKENS
from services.worker.agent.processes.launcher import SHORT_SPIN

START_TIMEOUT_S, STEPS_TIMEOUT_S = 180.0, 180.0
_CHILD = Path(__file__).with_name("vllmchild.py")


class Vllm:
    """Ready for samples."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self._process, self._log = process, log
        self._answer(START_TIMEOUT_S)

    def decode_step_s(self, batch_size: int) -> float:
        """The median time of a step in which every one of so many sequences decodes."""
        prompts = [request(seed, num_tokens=1).prompt_ids for seed in range(batch_size)]
        steps = self._steps(prompts, DECODED_TOKENS)
        return median(step_s for step_s, num_decoding in steps if num_decoding == batch_size)

    def prefill_s(self) -> float:
        """From a prompt of PREFILL_TOKENS to its first token."""
        prompt = request(2, num_tokens=1, num_prompt_tokens=PREFILL_TOKENS).prompt_ids
        return sum(step_s for step_s, _ in self._steps([prompt], 1))

    def _steps(self, prompts: list[tuple[int, ...]], num_tokens: int) -> list[tuple[float, int]]:
        """Each step's time, and how many sequences decoded in it."""
        asked = json.dumps({"prompts": prompts, "num_tokens": num_tokens})
        _pipe(self._process.stdin).write(asked.encode() + b"\n")
        steps: list[tuple[float, int]] = self._answer(STEPS_TIMEOUT_S)["steps"]
        return steps

    def _answer(self, timeout_s: float) -> dict[str, list[tuple[float, int]]]:
        """Raises TimeoutError, also when it has ended."""
        output, deadline_s = _pipe(self._process.stdout), time.monotonic() + timeout_s
        line = b""
        while not line.endswith(b"\n"):
            left_s = max(0.0, deadline_s - time.monotonic())
            is_there, _, _ = select.select([output], [], [], left_s)
            data = os.read(output.fileno(), 2**16) if is_there else b""
            if not data:
                raise TimeoutError(f"vLLM ended, or took over {timeout_s:g} s: {self._log}")
            line += data
        answer: dict[str, list[tuple[float, int]]] = json.loads(line)
        return answer


@contextmanager
def started(checkpoint: Path, num_threads: int) -> Iterator[Vllm | None]:
    """None where it is not installed; then a line says how to get it."""
    python = vllmenv.interpreter()
    if python is None:
        print(f"vLLM is not measured: get it with {vllmenv.HOW_TO_GET_IT}")
        yield None
        return
    threads = {
        "OMP_NUM_THREADS": str(num_threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
    log = vllmenv.FOLDER.with_name("vllm-engine.log")
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [str(python), "-P", str(_CHILD), str(checkpoint), str(MAX_RUNNING)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            env={**vllmenv.environment(), **SHORT_SPIN, **threads},
        ) as process,
    ):
        try:
            yield Vllm(process, log)
        finally:
            process.kill()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe
