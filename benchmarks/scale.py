"""An hour of a large cluster on one core: `python -m benchmarks.scale [--seconds 3600] [--seed 1]`.

1,000 nodes of 8 GPUs, 100,000 models, 500 requests a second and more (the built-in scenario
`scale`). Says how long an hour of it takes to simulate, what a decision takes, how many cold starts
the load makes, and what they come to. Writes `benchmarks/out/scale.json`.
"""

from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from time import perf_counter, process_time

from benchmarks.report import print_summary, write_report
from libs.common.startmode import StartMode
from services.scheduler.simulation.results.report import Run, run_of
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.scenario.scenario import load
from services.scheduler.simulation.simulation import Simulation
from services.scheduler.simulation.workload.workload import draw_workload

SCENARIO, HOUR_S, STEP_S = "scale", 3600.0, 60.0
PACKAGES = ("numpy", "immutables", "pydantic")


def measure(seconds: float, seed: int) -> tuple[Run, float]:
    """The run, and the processor time that it took."""
    scenario = load(SCENARIO, [Override("duration_s", seconds)])
    simulation = Simulation(scenario, StartMode.HYDRA, draw_workload(scenario, seed))
    began_s, began_cpu_s = perf_counter(), process_time()
    simulation.run(_progress(simulation))
    elapsed_s, cpu_s = perf_counter() - began_s, process_time() - began_cpu_s
    return run_of(simulation, StartMode.HYDRA.value, seed, elapsed_s), cpu_s


def _progress(simulation: Simulation) -> Callable[[float], None]:
    told_s = 0.0

    def tell(now_s: float) -> None:
        nonlocal told_s
        if now_s >= told_s + STEP_S:
            told_s = now_s
            figures = simulation.leader.figures
            print(
                f"{now_s:5.0f} s: {figures.num_starts} starts, {figures.num_decisions} decisions, "
                f"{1000 * figures.decide_s / max(1, figures.num_decisions):.3f} ms each",
                flush=True,
            )

    return tell


def summarize(run: Run, cpu_s: float, seconds: float) -> Mapping[str, float]:
    """Of a shorter time than an hour the rest is taken for as fast. Decisions are of all kinds: who
    gets which request, what starts, what ends."""
    figures = run.figures
    rounds, decisions = figures["num_rounds"], figures["num_decisions"]
    starts = figures["num_starts"]
    assert isinstance(rounds, int) and isinstance(decisions, int) and isinstance(starts, int)
    elapsed_s, decide_s = run.wall["elapsed_s"], run.wall["decide_s"]
    assert isinstance(elapsed_s, float) and isinstance(decide_s, float)
    return {
        "simulated_hour_s": elapsed_s * HOUR_S / seconds,
        "simulated_hour_cpu_s": cpu_s * HOUR_S / seconds,
        "decision_mean_ms": 1000 * decide_s / decisions,
        "round_mean_ms": 1000 * decide_s / rounds,
        "decide_ms_per_cold_start": 1000 * decide_s / max(1, starts),
        "cold_starts_per_s": run.number("starts_per_s") or 0.0,
        "requests_per_s": (run.number("num_requests") or 0.0) / seconds,
        "attainment": run.number("ttft_attainment") or 0.0,
        "tpot_attainment": run.number("tpot_attainment") or 0.0,
        "cost_gb_s": run.number("cost", "total_gb_s") or 0.0,
        "device_gb_s": run.number("cost", "device_gb_s") or 0.0,
    }


def main() -> None:
    parser = ArgumentParser(prog="benchmarks.scale")
    parser.add_argument("--seconds", type=float, default=HOUR_S)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    run, cpu_s = measure(options.seconds, options.seed)
    summary = summarize(run, cpu_s, options.seconds)
    print_summary(summary)
    write_report(
        "scale",
        summary=summary,
        samples=[{**run.figures, "wall": run.wall}],
        seeds=[options.seed],
        packages=PACKAGES,
        scenario=SCENARIO,
        simulated_s=options.seconds,
    )


if __name__ == "__main__":
    main()
