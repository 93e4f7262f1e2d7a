"""Cold starts of another model on the same nodes, while a pipeline becomes one worker and while it
does not, in turn.

Its stages share all nodes with the pipeline: the card of the entry's node, on which the rest of the
weights comes in, too. Cards are so slow that the whole start falls into the time of loading.
"""

import asyncio

from benchmarks.coldpath.variants import DEMO_MODEL, SLOW_NIC
from benchmarks.consolidation.samples import NeighbourRun, Samples
from benchmarks.consolidation.scene import NUM_STAGES, Scene, open_scene
from benchmarks.consolidation.streams import Stream, asked, prompt, running, until_tokens
from benchmarks.consolidation.workplace import Workplace

NEIGHBOUR = "random-0.1gb"
SETTINGS = {
    "min_pipeline_size": NUM_STAGES,
    "max_pipeline_size": NUM_STAGES,
    "max_slots": 1,
    "max_context_tokens": 512,
    "keep_alive_s": 60.0,
}
MEMORY = "2Gi"  # for both models' stages
STANDBYS = 2  # one for each model
NUM_STREAMS, NUM_WORDS, MAX_TOKENS = 2, 20, 900
BEGUN_TOKENS = 5  # of each stream, when the other model is asked
DELAY_S = 1.0  # since then: in that time a consolidation has begun


async def measure(place: Workplace, samples: Samples, num_pairs: int) -> None:
    """Those that are missing; pairs begin with either kind in turn."""
    for index in range(num_pairs):
        for during in (index % 2 == 0, index % 2 == 1):
            own = [run for run in samples.neighbours if run.index == index]
            if not any(run.during is during for run in own):
                run = await _measured(place, index, during=during)
                samples.add("neighbour", run)
                print(
                    f"neighbour {index + 1}/{num_pairs}: {'during' if during else 'without'} "
                    f"{run.ttft_s:.2f} s, then {run.state_after}",
                    flush=True,
                )


async def _measured(place: Workplace, index: int, *, during: bool) -> NeighbourRun:
    options = place.scene(SLOW_NIC, can_consolidate=during, num_standbys=STANDBYS, memory=MEMORY)
    async with open_scene(options) as scene:
        await scene.register(NEIGHBOUR, SETTINGS)
        await scene.until_ready()
        contents = [prompt(n, NUM_WORDS) for n in range(NUM_STREAMS)]
        streams = [Stream(scene.http, DEMO_MODEL, text, MAX_TOKENS) for text in contents]
        async with running(streams):
            await until_tokens(streams, BEGUN_TOKENS)
            await asyncio.sleep(DELAY_S)
            await _require_state(scene, "CONSOLIDATING" if during else "PIPELINED")
            stream = await asked(scene.http, NEIGHBOUR, prompt(index, NUM_WORDS), 4)
            endpoint = await scene.endpoint(DEMO_MODEL)
            assert endpoint is not None, "its streams go on"
            return NeighbourRun(
                index, during, stream.ttft_s, NUM_STAGES, state_after=endpoint["state"]
            )


async def _require_state(scene: Scene, state: str) -> None:
    endpoint = await scene.endpoint(DEMO_MODEL)
    assert endpoint is not None and endpoint["state"] == state, f"not {state}: {endpoint}"
