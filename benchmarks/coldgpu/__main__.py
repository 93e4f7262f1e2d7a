"""How long a first request waits on a GPU: `make bench-cold-gpu ARGS="--runs 7"`.

Random weights of Llama-2-7B's shape, up to four nodes that share one GPU, the embedded stack's real
processes, each start on a fresh stack. It needs a GPU of 80 GB, 20 GB of shared memory and 45 GB of
disk, and writes `benchmarks/out/cold-gpu.json` and a picture. A call adds the runs that are missing
from what the same code made earlier. Exit code 2: there is no CUDA device.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

import torch

from benchmarks.coldgpu.checkpoint import LLAMA_2_7B, SEED, ensure_checkpoint
from benchmarks.coldgpu.suite import GBIT_BYTES_PER_S, Suite
from benchmarks.coldpath.models import sources
from benchmarks.coldpath.samples import Samples
from benchmarks.coldpath.starts import Bench
from benchmarks.report import OUT, Bars, draw_bars, print_summary, write_report
from deploy.local.state.state_folder import StateFolder
from services.worker.agent.devices.finding import find_devices
from services.worker.agent.settings import parse_device
from services.worker.errors import DeviceError

FOLDER = OUT / "cold-gpu"
GPU = 0
S3_PROCESSES = 8  # four links of 16 Gbit are 8 GB/s
PACKAGES = ("torch", "nats-py", "pyzmq", "uvloop", "sqlalchemy", "asyncpg", "blake3")
_NO_GPU = 2


def main() -> int:
    options = _parser().parse_args()
    logging.basicConfig(level="WARNING")
    try:
        suite = Suite(LLAMA_2_7B, options.gbit * GBIT_BYTES_PER_S, _gpu_bytes(), GPU)
    except DeviceError as exc:
        print(f"nothing was measured, there is no CUDA device to measure on: {exc}")
        return _NO_GPU
    samples = Samples(FOLDER / f"samples-{options.gbit}gbit.jsonl")
    _measure(suite, options.only.split(",") if options.only else [], options.runs, samples)
    _report(suite, samples, options.gbit)
    return 0


def _gpu_bytes() -> int:
    """Raises DeviceError."""
    (found,) = find_devices((parse_device(0, f"cuda:{GPU}"),))
    if not torch.backends.cuda.is_built():
        raise DeviceError(f"torch {torch.__version__} is built without CUDA")
    return found.memory_bytes


def _measure(suite: Suite, only: Sequence[str], num_runs: int, samples: Samples) -> None:
    models = FOLDER / "models"
    shape = suite.shape
    source = {shape.name: ensure_checkpoint(models / shape.name, shape)}
    bench = Bench(
        StateFolder(FOLDER / "state"),
        {**sources(models, ()), **source},
        suite.node,
        s3_processes=S3_PROCESSES,
        max_slots=1,  # the cache of more would leave a quarter of the card too small
    )
    for run in range(num_runs):
        for variant in suite.variants:
            if len(samples.of(variant.name)) > run or (only and variant.name not in only):
                continue
            samples.add(asyncio.run(bench.measure(variant)))
            print(f"{variant.name:12} {samples.of(variant.name)[-1].ttft_s:6.2f} s", flush=True)


def _report(suite: Suite, samples: Samples, gbit: int) -> None:
    figures = suite.summary(samples)
    print_summary(figures)
    write_report(
        "cold-gpu",
        summary=figures,
        samples=samples.as_json(),
        seeds=f"random weights: {SEED}; drawn tokens: none, answers are greedy",
        packages=PACKAGES,
        links_gbit=gbit,
        weight_bytes=suite.shape.weight_bytes,
    )
    names = [key for key, value in figures.items() if key.endswith("_s") and value is not None]
    labels = [name.removeprefix("ttft_").removesuffix("_s").replace("_", "\n") for name in names]
    values = {"median": [figures[name] for name in names]}
    draw_bars("cold-gpu", [Bars("first text after a cold start, GPU", "s", labels, values)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coldgpu", description=__doc__)
    add = parser.add_argument
    add("--runs", type=int, default=3, help="of each kind of start (default 3)")
    add("--only", help="kinds of starts, with commas between them")
    add("--gbit", type=int, default=16, help="each node's link (default 16)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
