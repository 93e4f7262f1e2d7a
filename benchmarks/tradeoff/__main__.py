"""What stages and full-memory workers buy and cost: `make bench-tradeoff ARGS="--runs 5"`.

Cold starts of the demo's model in one to four stages, of which none to all have memory for the
whole model, on the embedded stack: real processes, four nodes of 100 Mbit/s, a fresh stack for each
start. TTFT, TPOT and cost as they were predicted, beside what was measured. Kinds take turns; raw
figures are kept in `benchmarks/out/tradeoff/samples.jsonl`: a call adds the runs that are missing
there and writes `benchmarks/out/tradeoff.json` and a picture of all that the same code made on this
kind of processor; `--fresh` begins anew.
"""

import argparse
import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.coldpath import models
from benchmarks.coldpath.variants import DEMO_MODEL
from benchmarks.report import OUT, print_summary, write_report
from benchmarks.tradeoff.cells import CELLS, PRACTICE, Cell, order_of
from benchmarks.tradeoff.picture import draw
from benchmarks.tradeoff.samples import Sample, Samples
from benchmarks.tradeoff.starts import KEEP_ALIVE_S, MAX_TOKENS, Bench
from benchmarks.tradeoff.summary import cell_table, spreads, summary_of
from deploy.local.state.state_folder import StateFolder

FOLDER = OUT / "tradeoff"
MODELS = OUT / "cold" / "models"  # the demo's model is the one that cold starts are measured with
PACKAGES = ("torch", "nats-py", "pyzmq", "uvloop", "sqlalchemy", "asyncpg", "blake3")
NOTES = (
    "cost: device memory reserved x time, from the plan until the last worker is gone, kept for "
    f"{KEEP_ALIVE_S:g} s after an answer of {MAX_TOKENS} tokens; w = 0 on devices too small for "
    "the whole model; least and most: of all runs"
)


def main() -> None:
    options = _parser().parse_args()
    logging.basicConfig(level="WARNING")
    path = FOLDER / "samples.jsonl"
    if options.fresh:
        path.unlink(missing_ok=True)
    names = options.only.split(",") if options.only else [cell.name for cell in CELLS]
    samples, chosen = Samples(path), [cell for cell in CELLS if cell.name in names]
    bench = Bench(StateFolder(FOLDER / "state"), models.sources(MODELS, {DEMO_MODEL}))
    _measure(bench, chosen, options.runs, samples, time.monotonic() + 60 * options.minutes)
    if samples.all:
        _report(samples.all)


def _measure(
    bench: Bench, cells: Sequence[Cell], num_runs: int, samples: Samples, deadline_s: float
) -> None:
    runs = (order_of(run, [c for c in cells if _lacks(samples, c, run)]) for run in range(num_runs))
    todo = [cell for run in runs for cell in run]
    practice = PRACTICE if todo and not samples.all else ()
    for index, cell in enumerate((*practice, *todo)):
        if time.monotonic() > deadline_s:
            print("the time is over: the same call again goes on from here")
            return
        sample = asyncio.run(bench.measure(cell))
        counts = index >= len(practice)
        if counts:
            samples.add(sample)
        _tell(sample, f"{index + 1}/{len(practice) + len(todo)}" if counts else "practice")


def _lacks(samples: Samples, cell: Cell, run: int) -> bool:
    return len(samples.of(cell)) <= run


def _tell(sample: Sample, place: str) -> None:
    m, p = sample.measured, sample.predicted
    print(
        f"{place:>9} {sample.cell.name}  first token {m.ttft_s:6.2f} s ({p.ttft_s:6.2f} predicted)"
        f"  {1000 * m.tpot_s:5.1f} ms per token ({1000 * p.tpot_s:5.1f})"
        f"  {m.cost_byte_s / 1e9:5.1f} GB s ({p.cost_byte_s / 1e9:5.1f})",
        flush=True,
    )


def _report(samples: Sequence[Sample]) -> None:
    figures = summary_of(samples)
    print_summary(figures)
    write_report(
        "tradeoff",
        summary=figures,
        samples=[asdict(sample) for sample in samples],
        seeds="none: answers are greedy, and kinds of starts take turns in a fixed order",
        packages=PACKAGES,
        cells=cell_table(samples),
        notes=NOTES,
    )
    draw(spreads(samples), samples[0].weight_bytes)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tradeoff", description=__doc__)
    add = parser.add_argument
    add("--runs", type=int, default=5, help="of each kind of start (default 5)")
    add("--only", help="kinds of starts such as s4_w1, with commas between them")
    add("--minutes", type=float, default=600, help="begin no start after so many (default 600)")
    add("--fresh", action="store_true", help="forget earlier runs")
    return parser


if __name__ == "__main__":
    main()
