"""What it takes that a pipeline becomes one worker: `make bench-consolidation`.

Cold starts of the demo's model in four stages on the embedded stack, real processes on four nodes:
how long requests pause at the switch (`pause`), how far loading slows them before it (`loading`),
how fast tokens come afterwards beside a worker that started alone (`tpot`), how long other models'
cold starts take meanwhile (`neighbour`), and what a trace costs with and without it (`cost`). Raw
figures are kept in `benchmarks/out/consolidation/samples.jsonl`: a call adds what is missing there
and writes `benchmarks/out/consolidation.json` and a picture of all that the same code made on this
kind of processor; `--fresh` begins anew, for the parts that it measures.
"""

import argparse
import asyncio
import logging
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.coldpath import models
from benchmarks.coldpath.variants import DEMO_MODEL
from benchmarks.consolidation import costs, figures, loading, neighbours, pauses, streams, tpot
from benchmarks.consolidation.picture import draw
from benchmarks.consolidation.samples import PARTS, Samples
from benchmarks.consolidation.summary import DEFINITIONS, TARGETS, details_of, summary_of
from benchmarks.consolidation.workplace import Workplace
from benchmarks.report import OUT, print_summary, write_report

FOLDER = OUT / "consolidation"
MODELS = OUT / "cold" / "models"  # the demo's model is the one that cold starts are measured with
PACKAGES = ("torch", "nats-py", "pyzmq", "uvloop", "numpy", "sqlalchemy", "asyncpg", "blake3")


def main() -> None:
    options = _parser().parse_args()
    logging.basicConfig(level="WARNING")
    parts = options.only.split(",") if options.only else PARTS
    samples = Samples(FOLDER / "samples.jsonl")
    if options.fresh:
        samples.forget(parts)
    try:
        asyncio.run(_measure(options, parts, samples))
    finally:
        if samples.all:
            _report(options, samples)


async def _measure(options: argparse.Namespace, parts: Sequence[str], samples: Samples) -> None:
    found = models.sources(MODELS, {DEMO_MODEL, neighbours.NEIGHBOUR})
    sources = {**found, tpot.ALONE: found[DEMO_MODEL]}
    place = Workplace(FOLDER, sources)
    if "pause" in parts:
        await pauses.measure(place, samples, options.switches)
    if "loading" in parts:
        await loading.measure(place, samples, options.loads)
    if "tpot" in parts:
        await tpot.measure(place, samples, options.pairs)
    if "neighbour" in parts:
        await neighbours.measure(place, samples, options.neighbours)
    if "cost" in parts:
        await costs.measure(FOLDER / "cost", samples, options.traces, options.minutes)


def _report(options: argparse.Namespace, samples: Samples) -> None:
    measured = (samples.switches, samples.loading, samples.tpot_pairs, samples.neighbours)
    cost_runs = samples.costs(options.minutes)
    summary = summary_of(*measured, cost_runs)
    print_summary(summary)
    write_report(
        "consolidation",
        summary=summary,
        samples=[asdict(sample) for sample in samples.all],
        seeds={
            "prompts": streams.SEED,
            "traces": sorted({run.seed for run in cost_runs}),
            "bootstrap": figures.SEED,
            "answers": "greedy",
        },
        packages=PACKAGES,
        targets=TARGETS,
        definitions=DEFINITIONS,
        details=details_of(*measured),
        trace_minutes=options.minutes,
    )
    draw(*measured, cost_runs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.consolidation", description=__doc__)
    add = parser.add_argument
    add("--switches", type=int, default=5, help="under load (default 5)")
    add("--loads", type=int, default=7, help="pairs of runs with and without (default 7)")
    add("--pairs", type=int, default=31, help="of answers after a switch (default 31)")
    add("--neighbours", type=int, default=11, help="pairs of cold starts beside it (default 11)")
    add("--traces", type=int, default=1, help="seeds of traces (default 1)")
    add("--minutes", type=float, default=3, help="of each trace (default 3)")
    add("--only", help=f"parts with commas between them: {', '.join(PARTS)}")
    add("--fresh", action="store_true", help="forget earlier figures of the parts measured")
    return parser


if __name__ == "__main__":
    main()
