"""What `make bench-cold-gpu` does, with a tiny model and nodes that share the processor."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from benchmarks.coldgpu import __main__ as command
from benchmarks.coldgpu.checkpoint import LLAMA_2_7B, Shape, ensure_checkpoint
from benchmarks.coldgpu.suite import Suite
from benchmarks.coldpath.models import sources
from benchmarks.coldpath.samples import Sample, Samples
from benchmarks.coldpath.starts import MAX_CONTEXT_TOKENS, QUESTION, Bench
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from libs.common.engines import PRIORS
from libs.common.states import EngineKind
from services.worker.agent.settings import DeviceSettings
from services.worker.errors import DeviceError
from tests.acceptance.client import Client
from tests.acceptance.observing import settled

SHAPE = Shape("random-tiny", 4, 64, 176, 4, 512)
# Slow links: a model that arrives at once is not split.
SUITE = Suite(SHAPE, nic_bytes_per_s=500_000, device_bytes=16 * 2**30, gpu=None)
FAST = replace(SUITE, nic_bytes_per_s=50_000_000)


@pytest.mark.asyncio(loop_scope="session")
async def test_the_random_weights_are_a_model_that_answers(
    client: Client, stack: LocalStack, sources: Path
) -> None:
    folder = ensure_checkpoint(sources / SHAPE.name, SHAPE)
    model = await client.ready(SHAPE.name, str(folder), keep_alive_s=1)
    assert model["dtype"] == "BF16"

    answer = await client.stream(SHAPE.name, QUESTION, max_tokens=12, temperature=0)

    assert answer.is_complete and answer.text, answer
    assert answer.finish_reason == "length"
    await client.delete(SHAPE.name)
    await settled(stack, client)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "suite"), [("sequential", FAST), ("s1", FAST), ("s2", SUITE), ("s4_standby", SUITE)]
)
async def test_a_start_of_random_weights_is_measured(
    tmp_path: Path, name: str, suite: Suite
) -> None:
    models = tmp_path / "models"
    source = {SHAPE.name: ensure_checkpoint(models / SHAPE.name, SHAPE)}
    known = {**sources(models, ()), **source}
    bench = Bench(StateFolder(tmp_path / "state"), known, suite.node, s3_processes=2, max_slots=1)
    samples = Samples(tmp_path / "samples.jsonl")
    variant = next(variant for variant in suite.variants if variant.name == name)

    samples.add(await bench.measure(variant))

    (sample,) = samples.of(name)
    assert SHAPE.weight_bytes <= sample.weight_bytes <= 1.1 * SHAPE.weight_bytes
    assert sample.ttft_s > SHAPE.weight_bytes / (variant.num_stages * suite.nic_bytes_per_s)
    assert suite.summary(samples)[f"ttft_{name}_s"] == sample.ttft_s


def test_the_summary_has_the_bound_and_the_ratios_of_what_was_measured(tmp_path: Path) -> None:
    samples = Samples(tmp_path / "samples.jsonl")
    samples.add(Sample(name, ttft_s) for name, ttft_s in (("sequential", 6.0), ("s4_standby", 0.5)))

    figures = SUITE.summary(samples)

    bound_s = SHAPE.weight_bytes / (4 * SUITE.nic_bytes_per_s)
    assert figures["bound_s4_s"] == bound_s
    assert figures["s4_standby_to_bound"] == 0.5 / bound_s
    assert figures["sequential_to_s4_standby"] == 12.0
    assert figures["ttft_s1_s"] is None and figures["sequential_to_s4"] is None


def test_the_nodes_have_equal_shares_of_one_gpu_and_room_for_what_they_get() -> None:
    suite = Suite(LLAMA_2_7B, 2 * 10**9, device_bytes=80 * 2**30, gpu=0)

    shape = suite.shape
    assert shape.weight_bytes == 13_476_831_232
    kv_bytes = 4 * shape.num_layers * shape.hidden_size * MAX_CONTEXT_TOKENS  # bfloat16, two each
    for variant in suite.variants:
        node = suite.node(variant)
        assert (node["gpu"], node["memory"]) == (0, 19.5 * 2**30)
        assert shape.weight_bytes + kv_bytes + PRIORS[EngineKind.STAGE].worker_bytes < 19.5 * 2**30
        host_cache_bytes = node["host_cache"]
        assert isinstance(host_cache_bytes, int)
        assert host_cache_bytes * variant.num_stages > shape.weight_bytes


def test_without_a_gpu_it_says_so_and_ends_with_a_code_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_gpu(configured: Sequence[DeviceSettings]) -> NoReturn:
        raise DeviceError(f"GPU {configured[0].gpu} cannot be asked for its memory: no library")

    monkeypatch.setattr(command, "find_devices", no_gpu)
    monkeypatch.setattr("sys.argv", ["benchmarks.coldgpu"])

    assert command.main() == 2
    assert "there is no CUDA device to measure on: GPU 0 cannot" in capsys.readouterr().out
