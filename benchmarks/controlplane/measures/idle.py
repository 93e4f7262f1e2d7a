"""What a cluster costs in which nothing happens: processors, and bytes of heartbeats."""

import asyncio
import time

from benchmarks.controlplane.plan import Plan
from benchmarks.controlplane.process_usage import cpu_s, descendants
from benchmarks.controlplane.samples import Samples
from benchmarks.controlplane.scene import Scene
from benchmarks.controlplane.tap import weighing_heartbeats

_WEIGHING_S = 5.0


async def measure(scene: Scene, plan: Plan, samples: Samples) -> None:
    leader = await scene.leader()
    names = {"leader": leader, "postgres": "postgres", "nats": "nats", "gateway": "gateway-0"}
    before, began_s = _cpu(scene, names), time.monotonic()
    await asyncio.sleep(plan.idle_s)
    after, took_s = _cpu(scene, names), time.monotonic() - began_s
    for label in names:
        samples.figures[f"{label}_cores_idle"] = (after[label] - before[label]) / took_s
    async with weighing_heartbeats(scene.stack.servers, scene.tap):
        await asyncio.sleep(_WEIGHING_S)
    for kind, sizes in scene.tap.heartbeat_bytes.items():
        samples.add(f"heartbeat_{kind}_bytes", map(float, sizes))
    scene.tap.heartbeat_bytes.clear()


def _cpu(scene: Scene, names: dict[str, str]) -> dict[str, float]:
    """Postgres with the processes of its sessions; the others alone."""
    return {
        label: sum(cpu_s(pid) for pid in _pids(scene.stack.pid(name), is_whole=label == "postgres"))
        for label, name in names.items()
    }


def _pids(pid: int | None, *, is_whole: bool) -> list[int]:
    assert pid is not None, "it runs"
    return [pid, *descendants(pid)] if is_whole else [pid]
