"""Gaps between tokens of a pipeline while its entry loads the rest of the weights, and before that.

A pipeline differs from the next one by chance more than by what loading takes, so each is compared
with itself. Contexts grow meanwhile: pipelines that stay what they are take turns with the others,
and say how much slower the second window is anyway. What lets a consolidation begin is the
scheduler's setting: between the windows the scheduler is started again, with the other setting or
the same one, which those who are served do not notice.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.coldpath.variants import DEMO_MODEL, FAST_NIC
from benchmarks.consolidation.pauses import recorded
from benchmarks.consolidation.samples import LoadingRun, Samples
from benchmarks.consolidation.scene import MAX_SLOTS, Scene, open_scene
from benchmarks.consolidation.streams import Stream, prompt, running, until_tokens
from benchmarks.consolidation.workplace import Workplace

NUM_WORDS, MAX_TOKENS = 20, 900
WINDOW_S = 6.0  # loading takes 10 s beside eight streams
SETTLED_S = 0.5  # since a state was told
BEGIN_S = 3.0  # from a scheduler that is ready until it begins a consolidation


@dataclass(frozen=True)
class _Window:
    began_at_s: float
    ended_at_s: float

    def gaps_s(self, streams: Sequence[Stream]) -> tuple[float, ...]:
        """Between tokens that came in it."""
        found = [s.gaps(self.began_at_s, self.ended_at_s) for s in streams]
        return tuple(gap_s for own in found for gap_s in own)


async def measure(place: Workplace, samples: Samples, num_pairs: int) -> None:
    """Those that are missing; pairs begin with either kind in turn."""
    for index in range(num_pairs):
        for loads in (index % 2 == 0, index % 2 == 1):
            own = [run for run in samples.loading if run.index == index]
            if not any(run.loads is loads for run in own):
                run = await _measured(place, index, loads=loads)
                samples.add("loading", run)
                words = "loads" if loads else "without"
                print(f"loading {index + 1}/{num_pairs}: {words} {run.ratio:.3f}", flush=True)


async def _measured(place: Workplace, index: int, *, loads: bool) -> LoadingRun:
    async with open_scene(place.scene(FAST_NIC, can_consolidate=False)) as scene:
        await scene.until_ready()
        contents = [prompt(MAX_SLOTS * index + n, NUM_WORDS) for n in range(MAX_SLOTS)]
        streams = [Stream(scene.http, DEMO_MODEL, content, MAX_TOKENS) for content in contents]
        async with running(streams):
            await until_tokens(streams, 3)
            before = await _window()
            await scene.restart_scheduler(can_consolidate=loads)
            then = await (_while_it_loads(scene) if loads else _without(scene))
        return LoadingRun(index, loads, before.gaps_s(streams), then.gaps_s(streams))


async def _while_it_loads(scene: Scene) -> _Window:
    await scene.until_state(DEMO_MODEL, "CONSOLIDATING")
    window = await _window()
    await scene.until_state(DEMO_MODEL, "STANDALONE")
    record = await recorded(scene, DEMO_MODEL)
    return _Window(window.began_at_s, min(window.ended_at_s, record.loaded_at_s))


async def _without(scene: Scene) -> _Window:
    await asyncio.sleep(BEGIN_S)
    window = await _window()
    endpoint = await scene.endpoint(DEMO_MODEL)
    assert endpoint is not None and endpoint["state"] == "PIPELINED", endpoint
    return window


async def _window() -> _Window:
    await asyncio.sleep(SETTLED_S)
    began_at_s = time.time()
    await asyncio.sleep(WINDOW_S)
    return _Window(began_at_s, time.time())
