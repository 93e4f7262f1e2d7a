"""How long a first request waits: `make bench-cold ARGS="--runs 7 --only s4,sequential"`.

The embedded stack, real processes, nodes with capped links; each start on a fresh stack that has
served another model before. Kinds of starts take turns. Raw figures are kept in
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

from benchmarks.coldpath import models, report, vllmserver
from benchmarks.coldpath.samples import Samples
from benchmarks.coldpath.starts import Bench
from benchmarks.coldpath.summary import is_of_this_code
from benchmarks.coldpath.variants import GROWTH, MAIN, VLLM
from benchmarks.report import OUT
from deploy.local.statefolder import StateFolder

FOLDER = OUT / "cold"
SAMPLES = FOLDER / "samples.jsonl"


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
    deadline_s = time.monotonic() + options.minutes * 60
    _measure(names, options.runs, samples, deadline_s)
    report.write(samples)


def _measure(names: Sequence[str], num_runs: int, samples: Samples, deadline_s: float) -> None:
    known = {variant.name: variant for variant in (*MAIN, *GROWTH)}
    chosen = [known[name] for name in names if name != VLLM]
    bench = Bench(
        StateFolder(FOLDER / "state"),
        models.sources(FOLDER / "models", {variant.model for variant in chosen}),
    )
    for run in range(num_runs):
        for name in names:
            if len(samples.of(name)) > run:
                continue
            if time.monotonic() > deadline_s:
                print("the time is over: the same call again goes on from here")
                return
            if name == VLLM:
                samples.add(vllmserver.measure(FOLDER))
            else:
                samples.add(asyncio.run(bench.measure(known[name])))
            _tell(name, samples)


def _tell(name: str, samples: Samples) -> None:
    for found in (samples.of(name), samples.of(f"{name}_warm_cache")):
        if found:
            last = found[-1]
            print(f"{last.variant:32} run {len(found)}  {last.ttft_s:6.2f} s", flush=True)


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
