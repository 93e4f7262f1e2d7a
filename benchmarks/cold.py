"""How long a first request waits: `make bench-cold ARGS="--runs 7 --only s4,sequential"`.

The embedded stack, real processes, nodes with capped links; each start on a fresh stack that has
served another model before (those of `--growth` share two stacks, each with weights of its own).
Kinds of starts take turns. Raw figures are kept in
`benchmarks/out/cold/samples.jsonl`: a call adds the runs that are missing there and writes
`benchmarks/out/cold.json` of all that the same code made on this kind of processor; `--fresh`
begins anew. The fetcher's own benchmark runs first unless it has measured this code.
"""

import argparse
import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks import vllmenv
from benchmarks.coldpath import models, report, vllmserver
from benchmarks.coldpath.duration_estimates import DurationEstimates
from benchmarks.coldpath.samples import Sample, Samples
from benchmarks.coldpath.starts import Bench
from benchmarks.coldpath.summary import is_of_this_code
from benchmarks.coldpath.variants import GROWTH, MAIN, VLLM, by_stack
from benchmarks.report import OUT
from deploy.local.state.state_folder import StateFolder

FOLDER = OUT / "cold"
SAMPLES = FOLDER / "samples.jsonl"
ALL = (*MAIN, *GROWTH)


def main() -> None:
    options = _parser().parse_args()
    logging.basicConfig(level="WARNING")
    if options.fresh:
        SAMPLES.unlink(missing_ok=True)
    samples = Samples(SAMPLES)
    names = options.only.split(",") if options.only else [VLLM, *(v.name for v in MAIN)]
    if options.growth:
        names = [variant.name for variant in GROWTH]
    elif not options.only and not is_of_this_code(OUT / "fetch.json"):
        subprocess.run([sys.executable, "-m", "benchmarks.fetching", str(options.runs)], check=True)
    if VLLM in names and vllmenv.install() is None:
        names.remove(VLLM)
    _measure(names, options.runs, samples, time.monotonic() + options.minutes * 60)
    report.write(samples)


def _measure(names: Sequence[str], num_runs: int, samples: Samples, deadline_s: float) -> None:
    chosen = [variant for variant in ALL if variant.name in names]
    bench = Bench(
        StateFolder(FOLDER / "state"),
        models.sources(FOLDER / "models", {variant.model for variant in chosen}),
    )
    estimates = DurationEstimates(ALL)
    for run in range(num_runs):
        left = [turn for later in range(run, num_runs) for turn in _turns(names, later, samples)]
        minutes = sum(map(estimates.expected_s, left)) / 60
        print(f"run {run + 1} of {num_runs}, about {minutes:.0f} minutes for all", flush=True)
        for turn in _turns(names, run, samples):
            if time.monotonic() > deadline_s:
                print("the time is over: the same call again goes on from here")
                return
            estimates.begin()
            found = _measured(turn, bench)
            estimates.end(turn)
            samples.add(found)
            _tell(found, samples)
        print(f"so far went into {bench.stopwatch}", flush=True)


def _turns(names: Sequence[str], run: int, samples: Samples) -> list[list[str]]:
    """What this run lacks, as it is measured together."""
    missing = {name for name in names if len(samples.of(name)) <= run}
    turns = [[VLLM]] if VLLM in missing else []
    stacks = by_stack(variant for variant in ALL if variant.name in missing)
    return turns + [[variant.name for variant in stack] for stack in stacks]


def _measured(turn: Sequence[str], bench: Bench) -> list[Sample]:
    if VLLM in turn:
        bench.stopwatch.begin()
        found = [vllmserver.measure(FOLDER)]
        bench.stopwatch.lap(VLLM)
        return found
    return asyncio.run(bench.measure(*(variant for variant in ALL if variant.name in turn)))


def _tell(found: Sequence[Sample], samples: Samples) -> None:
    for sample in found:
        num_runs = len(samples.of(sample.variant))
        print(f"{sample.variant:32} run {num_runs}  {sample.ttft_s:6.2f} s", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold", description=__doc__)
    add = parser.add_argument
    add("--runs", type=int, default=7, help="of each kind of start (default 7)")
    add("--only", help="kinds of starts, with commas between them")
    add("--growth", action="store_true", help="growth with model size and stages instead")
    add("--minutes", type=float, default=600, help="begin no run after so many (default 600)")
    add("--fresh", action="store_true", help="forget earlier runs")
    return parser


if __name__ == "__main__":
    main()
