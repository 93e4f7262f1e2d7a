"""`python -m benchmarks.fidelity [--minutes 10]`: how far the simulator is from real processes.

Replays a trace on the embedded stack to calibrate the simulator's constants, then another one
twice, and simulates that one. Runs that the same code has made on this kind of processor are kept
in `benchmarks/out/fidelity/` and not made again; `--simulate-only` takes what is there, whatever
code made it. Writes `benchmarks/out/fidelity.json` and a picture.
"""

import asyncio
import logging
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.fidelity.comparison import Outcome, StartOutcome, match_starts, pairs
from benchmarks.fidelity.constants import Calibration, Constants
from benchmarks.fidelity.knowledge import Values, known_values
from benchmarks.fidelity.picture import draw
from benchmarks.fidelity.scenario import scenario_text
from benchmarks.fidelity.simulated import SimulatedRun, simulate
from benchmarks.fidelity.summary import Compared, goals, summary_of
from benchmarks.replay.kept_runs import KeptRuns
from benchmarks.replay.models import MODELS
from benchmarks.replay.record import RunRecord
from benchmarks.replay.run import NIC_BYTES_PER_S, RunOptions, nodes
from benchmarks.report import OUT, print_summary, write_report
from services.scheduler.simulation.scenario.scenario import Scenario, parse

FOLDER = OUT / "fidelity"
SCENARIO = FOLDER / "scenario.toml"
PACKAGES = ("torch", "nats-py", "pyzmq", "numpy", "sqlalchemy", "asyncpg")
CALIBRATION, REAL = "calibration", ("real-1", "real-2")


def main() -> None:
    options = _parser().parse_args()
    logging.basicConfig(level="WARNING")
    runs = KeptRuns(FOLDER, is_any_code=options.simulate_only)
    calibration, real = asyncio.run(_measured(options, runs))
    constants = Calibration(calibration, MODELS, NIC_BYTES_PER_S).constants()
    scenario = _scenario(calibration, constants, options.standbys)
    mode = _options(options, options.seed, options.minutes).mode
    simulated = simulate(scenario, mode, real[0].requests, _known(calibration, scenario))
    _write(options, constants, real, simulated, calibration)


async def _measured(options: Namespace, runs: KeptRuns) -> tuple[RunRecord, list[RunRecord]]:
    """Both real runs begin with what the scheduler had measured in the calibration."""
    first = _options(options, options.calibration_seed, options.calibration_minutes)
    wanted = _options(options, options.seed, options.minutes)
    if options.fresh:
        runs.forget()
    calibration = await runs.ensure(CALIBRATION, first)
    return calibration, [await runs.ensure(name, wanted, after=calibration) for name in REAL]


def _scenario(calibration: RunRecord, constants: Constants, standbys: int) -> Scenario:
    facts = {model.name: model for model in calibration.models}
    text = scenario_text(MODELS, facts, nodes(), constants, standbys)
    SCENARIO.write_text(text)
    return parse(str(SCENARIO), text)


def _known(calibration: RunRecord, scenario: Scenario) -> Values:
    """Both real runs began with it."""
    (group,) = scenario.nodes
    node_ids = {node.node_id: own for node, own in zip(nodes(), group.node_ids, strict=True)}
    return known_values(calibration.measured, node_ids, {model.name for model in MODELS})


def _write(
    options: Namespace,
    constants: Constants,
    real: Sequence[RunRecord],
    simulated: SimulatedRun,
    calibration: RunRecord,
) -> None:
    compared = compare(real, simulated)
    summary = summary_of(compared)
    print_summary(summary)
    for goal in goals(summary):
        print(f"{'met' if goal['is_met'] else 'NOT MET':8} {goal['what']} {goal['wanted']}")
    write_report(
        "fidelity",
        summary=summary,
        samples={
            "real": [[asdict(request) for request in run.requests] for run in real],
            "simulated": [asdict(request) for request in simulated.requests],
            "starts": {
                "real": [[asdict(StartOutcome.of(start)) for start in r.starts] for r in real],
                "simulated": [asdict(start) for start in simulated.starts],
            },
        },
        seeds={"trace": options.seed, "calibration": options.calibration_seed},
        packages=PACKAGES,
        goals=goals(summary),
        constants=asdict(constants),
        scenario=str(SCENARIO.relative_to(OUT.parent)),
        cost_gb_s={
            "real": [run.device_byte_s / 1e9 for run in real],
            "simulated": simulated.device_byte_s / 1e9,
        },
        runs={"calibration": calibration.run, "real": [run.run for run in real]},
        load_average=[run.load_average for run in real],
        notes="errors are |other - real| / real of a request's TTFT; docs/simulator.md",
    )
    draw(compared.simulated, compared.real)


def compare(real: Sequence[RunRecord], simulated: SimulatedRun) -> Compared:
    outcomes = [[Outcome.of(request) for request in run.requests] for run in real]
    starts = [[StartOutcome.of(start) for start in run.starts] for run in real]
    matched = [match_starts(own, simulated.starts) for own in starts]
    return Compared(
        simulated=[pair for own in outcomes for pair in pairs(own, simulated.requests)],
        real=pairs(outcomes[0], outcomes[1]),
        starts=matched[0] + matched[1],
        real_starts=match_starts(starts[0], starts[1]),
    )


def _options(options: Namespace, seed: int, minutes: float) -> RunOptions:
    return RunOptions(seed, minutes, standby_runtimes=options.standbys)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__)
    add = parser.add_argument
    add("--minutes", type=float, default=10, help="of the trace (default 10)")
    add("--seed", type=int, default=1, help="of the trace (default 1)")
    add("--calibration-minutes", type=float, default=4, help="of the other trace (default 4)")
    add("--calibration-seed", type=int, default=101, help="of the other trace (default 101)")
    add("--standbys", type=int, default=2, help="standby processes of each node (default 2)")
    add("--fresh", action="store_true", help="forget earlier runs")
    add("--simulate-only", action="store_true", help="simulate again beside the runs that are kept")
    return parser


if __name__ == "__main__":
    main()
