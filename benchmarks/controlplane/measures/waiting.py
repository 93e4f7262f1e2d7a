"""Thousands of models that wait at once for a cluster that has room for few of them."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.controlplane.measures.cold import note
from benchmarks.controlplane.plan import Plan
from benchmarks.controlplane.process_usage import cpu_s
from benchmarks.controlplane.samples import Samples
from benchmarks.controlplane.scene import Scene
from benchmarks.controlplane.traffic import COLD

_POLL_S = 0.05


async def measure(scene: Scene, plan: Plan, samples: Samples) -> None:
    """One request for each of the large models. The leader's health file is touched after each of
    its rounds: the longest pause between two touches bounds the longest round."""
    leader, epoch = await scene.leader(), await scene.epoch()
    pid = scene.stack.pid(leader)
    assert pid is not None, "the leader runs"
    beats = _Beats(scene.stack.options.state.health / leader)
    watching = asyncio.create_task(beats.watch())
    before_s, began_s = cpu_s(pid), time.monotonic()
    for number in range(plan.num_models - plan.num_large, plan.num_models):
        scene.asker.send(number, COLD)
    note(samples, "waiting", await scene.asker.finish())
    took_s = time.monotonic() - began_s
    samples.figures["waiting_all_served_s"] = took_s
    watching.cancel()
    samples.figures["waiting_leaders_lost"] = float(await scene.epoch() != epoch)
    if scene.stack.pid(leader) == pid:
        samples.figures["leader_cores_waiting"] = (cpu_s(pid) - before_s) / took_s
        samples.figures["waiting_longest_pause_s"] = beats.longest_pause_s


@dataclass
class _Beats:
    """Of a process: when its health file was touched."""

    path: Path
    longest_pause_s: float = 0.0

    async def watch(self) -> None:
        """Until cancelled."""
        last_s = time.time()
        while True:
            try:
                touched_s = self.path.stat().st_mtime
            except FileNotFoundError:  # it has ended
                return
            pause_s = max(touched_s - last_s, time.time() - touched_s)
            self.longest_pause_s = max(self.longest_pause_s, pause_s)
            last_s = max(last_s, touched_s)
            await asyncio.sleep(_POLL_S)
