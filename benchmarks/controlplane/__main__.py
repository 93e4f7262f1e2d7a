"""What the control plane does at scale: `python -m benchmarks.controlplane`.

Real NATS, Postgres, schedulers and gateways; hollow nodes (see `hollow/README.md`); a catalogue of
registered models. Writes `benchmarks/out/control-plane.json` and a picture.
"""

import argparse
import asyncio
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.controlplane import planner, report
from benchmarks.controlplane.measures import cold, gateways, idle, takeover, waiting
from benchmarks.controlplane.plan import Plan
from benchmarks.controlplane.samples import Samples
from benchmarks.controlplane.scene import open_scene, prepare
from deploy.local.state.state_folder import StateFolder
from libs.common.process.garbage_collection import MAX_BUSY, full_collections_when_quiet


async def run(plan: Plan, folder: Path) -> list[Samples]:
    state = StateFolder(folder)
    # As in a leader with many endpoints: no full collection in the middle of a decision.
    async with full_collections_when_quiet(num_busy=lambda: 2 * MAX_BUSY):
        found = [_planner(plan, num_nodes) for num_nodes in plan.nums_nodes]
    print(f"filling in {plan.num_models} models", flush=True)
    await prepare(plan, state)
    for number, samples in enumerate(found, start=1):
        await _measure(plan, state, samples)
        report.write(found[:number], plan)  # what follows may fail
    return found


def _planner(plan: Plan, num_nodes: int) -> Samples:
    samples = Samples(num_nodes)
    for name, after_starts in (("planner_ms", False), ("planner_after_starts_ms", True)):
        times_ms = planner.decision_times_ms(
            num_nodes, plan.num_planner_samples, plan.seed, after_starts=after_starts
        )
        samples.add(name, times_ms)
    return samples


async def _measure(plan: Plan, state: StateFolder, samples: Samples) -> None:
    num_nodes = samples.num_nodes
    async with open_scene(plan, state, num_nodes) as scene:
        print(f"{num_nodes} nodes: idle", flush=True)
        await idle.measure(scene, plan, samples)
        print(f"{num_nodes} nodes: cold requests", flush=True)
        await cold.measure(scene, plan, samples)
        print(f"{num_nodes} nodes: takeovers", flush=True)
        await takeover.measure(scene, plan, samples, cold.cold_models(plan, -num_nodes))
        print(f"{num_nodes} nodes: gateways", flush=True)
        await gateways.measure(scene, plan, samples)
        if num_nodes == min(plan.nums_nodes) and plan.num_large:
            print(f"{num_nodes} nodes: {plan.num_large} models wait", flush=True)
            await waiting.measure(scene, plan, samples)


def main() -> None:
    plan = Plan()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.controlplane")
    parser.add_argument("--nodes", default=",".join(map(str, plan.nums_nodes)))
    parser.add_argument("--models", type=int, default=plan.num_models)
    parser.add_argument("--waiting", type=int, default=plan.num_large, help="models at once")
    parser.add_argument("--cached-units", type=int, default=plan.cached_units)
    parser.add_argument("--idle", type=float, default=plan.idle_s, help="seconds")
    parser.add_argument("--steady", type=float, default=plan.steady_s, help="seconds")
    parser.add_argument("--burst", type=float, default=plan.burst_s, help="seconds")
    parser.add_argument("--state", type=Path, help="folder to keep between runs")
    options = parser.parse_args()
    plan = replace(
        plan,
        nums_nodes=tuple(map(int, options.nodes.split(","))),
        num_models=options.models,
        num_large=options.waiting,
        cached_units=options.cached_units,
        idle_s=options.idle,
        steady_s=options.steady,
        burst_s=options.burst,
    )
    with TemporaryDirectory() as folder:
        asyncio.run(run(plan, options.state or Path(folder) / "state"))


if __name__ == "__main__":
    main()
