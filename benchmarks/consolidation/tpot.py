"""Tokens of a worker that was a pipeline, in turn with those of one that started alone."""

from benchmarks.coldpath.variants import DEMO_MODEL, FAST_NIC
from benchmarks.consolidation.samples import Samples, TpotPair
from benchmarks.consolidation.scene import (
    KEEP_ALIVE_S,
    MAX_CONTEXT_TOKENS,
    MAX_SLOTS,
    Scene,
    open_scene,
)
from benchmarks.consolidation.streams import Stream, asked, running
from benchmarks.consolidation.workplace import Workplace

ALONE = "alone"  # the same weights under another name
ALONE_SETTINGS = {
    "min_pipeline_size": 1,
    "max_pipeline_size": 1,
    "max_slots": MAX_SLOTS,
    "max_context_tokens": MAX_CONTEXT_TOKENS,
    "keep_alive_s": KEEP_ALIVE_S,
}
QUESTION = "Tell me a long story about a lighthouse keeper and the sea."
NUM_TOKENS = 96
PAIRS_PER_STACK = 8  # each stack has two workers of its own: what they got by chance, they share


async def measure(place: Workplace, samples: Samples, num_pairs: int) -> None:
    """Those that are missing, on as many stacks as they take."""
    while (num_missing := num_pairs - len(samples.tpot_pairs)) > 0:
        stack = 1 + max((pair.stack for pair in samples.tpot_pairs), default=-1)
        num_here = min(num_missing, PAIRS_PER_STACK)
        async with open_scene(place.scene(FAST_NIC, can_consolidate=True)) as scene:
            await _measure_here(scene, samples, stack, num_here)
        ratios = [p.consolidated_s / p.alone_s for p in samples.tpot_pairs if p.stack == stack]
        words = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"tpot {len(samples.tpot_pairs)}/{num_pairs}: {words}", flush=True)


async def _measure_here(scene: Scene, samples: Samples, stack: int, num_pairs: int) -> None:
    await scene.register(ALONE, ALONE_SETTINGS, source=DEMO_MODEL)
    nodes = await _started(scene)
    for number in range(num_pairs):
        is_consolidated_first = number % 2 == 0
        order = (DEMO_MODEL, ALONE) if is_consolidated_first else (ALONE, DEMO_MODEL)
        tpot_s = {model: (await _ask(scene, model)).tpot_s for model in order}
        pair = TpotPair(
            stack,
            number,
            is_consolidated_first,
            tpot_s[DEMO_MODEL],
            tpot_s[ALONE],
            nodes[DEMO_MODEL],
            nodes[ALONE],
        )
        samples.add("tpot", pair)


async def _started(scene: Scene) -> dict[str, str]:
    """Both are one worker, on nodes of their own, which have answered. Their nodes, by model."""
    await scene.until_ready()
    async with running([Stream(scene.http, DEMO_MODEL, QUESTION, MAX_CONTEXT_TOKENS // 2)]):
        await scene.until_state(DEMO_MODEL, "STANDALONE")
    nodes = {DEMO_MODEL: await scene.until_alone(DEMO_MODEL)}
    await _ask(scene, ALONE)
    endpoint = await scene.endpoint(ALONE)
    assert endpoint is not None, "it has answered"
    (worker,) = endpoint["workers"]
    nodes[ALONE] = worker["node_id"]
    assert len(set(nodes.values())) == 2, f"both run on {nodes[ALONE]}"
    for model in (DEMO_MODEL, ALONE):  # what steps are made faster by is done
        await _ask(scene, model)
    return nodes


async def _ask(scene: Scene, model: str) -> Stream:
    return await asked(scene.http, model, QUESTION, NUM_TOKENS)
