"""`python -m benchmarks.trace [--seeds 3] [--minutes 3]`: targets met and cost, by policy.

Real processes: replays a trace on the embedded stack, each policy on a fresh one that knows the
models. Policies take turns on the trace of a seed. Runs are kept in
`benchmarks/out/trace/samples.jsonl`: a call makes those that are missing there and writes
`benchmarks/out/trace.json` of all that the same code made on this kind of processor; `--fresh`
begins anew.
"""

import asyncio
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict

from benchmarks.replay.models import MODELS, sources
from benchmarks.replay.run import RunOptions, described, nodes, run
from benchmarks.replay.states import Prepared, copied
from benchmarks.report import OUT, print_summary, write_report
from benchmarks.trace.picture import draw
from benchmarks.trace.samples import Sample, Samples, sample_of
from benchmarks.trace.summary import intervals_of, over_seeds, summary_of
from libs.common.startmode import StartMode

FOLDER = OUT / "trace"
SAMPLES = FOLDER / "samples.jsonl"
PACKAGES = ("torch", "nats-py", "pyzmq", "numpy", "sqlalchemy", "asyncpg")
POLICIES = (StartMode.SEQUENTIAL, StartMode.SINGLE, StartMode.CACHED, StartMode.HYDRA)


def main() -> None:
    options = _parser().parse_args()
    logging.basicConfig(level="WARNING")
    if options.fresh:
        SAMPLES.unlink(missing_ok=True)
    samples = Samples.read(SAMPLES)
    asyncio.run(_measure(options, samples))
    found = [s for wanted in _wanted(options) if (s := samples.of(wanted.as_json())) is not None]
    found.sort(key=lambda sample: POLICIES.index(StartMode(sample.policy)))
    _write(options, found)


async def _measure(options: Namespace, samples: Samples) -> None:
    todo = [wanted for wanted in _wanted(options) if samples.of(wanted.as_json()) is None]
    if not todo:
        return
    models = FOLDER / "models"
    models.mkdir(parents=True, exist_ok=True)
    imported = await Prepared(FOLDER, sources(models, MODELS), MODELS).ensure(nodes())
    for number, wanted in enumerate(todo):
        record = await run(copied(imported, FOLDER / "state"), wanted)
        samples.add(sample_of(record))
        words = f"{number + 1} of {len(todo)}: {wanted.mode.value}, seed {wanted.seed}"
        print(f"{words}: {described(record)}", flush=True)


def _wanted(options: Namespace) -> Iterator[RunOptions]:
    """Seed by seed; each begins with another policy."""
    chosen = [StartMode(name) for name in options.only.split(",")] if options.only else POLICIES
    for seed in range(1, options.seeds + 1):
        for place in range(len(chosen)):
            mode = chosen[(place + seed - 1) % len(chosen)]
            yield RunOptions(seed, options.minutes, mode, standby_runtimes=options.standbys)


def _write(options: Namespace, found: list[Sample]) -> None:
    summary = summary_of(found)
    print_summary(summary)
    write_report(
        "trace",
        summary=summary,
        samples=[asdict(sample) for sample in found],
        seeds=list(range(1, options.seeds + 1)),
        packages=PACKAGES,
        intervals=intervals_of(found),
        notes="attainment: first tokens in time; cost: GB s of device memory per request",
    )
    draw(found, over_seeds(found))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m benchmarks.trace", description=__doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=3, help="of traces (default 3)")
    add("--minutes", type=float, default=3, help="of each trace (default 3)")
    add("--only", help="policies, with commas between them")
    add("--standbys", type=int, default=2, help="standby processes of each node (default 2)")
    add("--fresh", action="store_true", help="forget earlier runs")
    return parser


if __name__ == "__main__":
    main()
