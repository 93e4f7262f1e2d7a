"""What `make bench-engine` asks of vLLM's process, which a few lines stand in for here."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.engine.vllmengine import Vllm

SCRIPT = """
import json, sys
print("{}", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    num_prompts = len(asked["prompts"])
    steps = [[0.5, 0], [9.0, num_prompts - 1]]
    steps += [[0.125, num_prompts]] * (asked["num_tokens"] - 1)
    print(json.dumps({"steps": steps if asked["num_tokens"] > 1 else steps[:1]}), flush=True)
"""


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", SCRIPT]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, bufsize=0) as process:
        yield process
        process.kill()


def test_decode_counts_the_steps_in_which_all_decode_and_prefill_the_first_token(
    process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    vllm = Vllm(process, tmp_path / "log")

    assert vllm.decode_step_s(4) == 0.125
    assert vllm.prefill_s() == 0.5


def test_a_process_that_has_ended_is_no_endless_wait(
    process: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    vllm = Vllm(process, tmp_path / "log")
    assert process.stdin is not None
    process.stdin.close()
    process.wait(10)

    with pytest.raises((TimeoutError, ValueError)):
        vllm.prefill_s()
