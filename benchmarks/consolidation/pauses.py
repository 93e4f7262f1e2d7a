"""Pipelines that become one worker while they answer as many requests as they have slots for."""

from collections.abc import Sequence
from typing import Any

from benchmarks.coldpath.readiness import TIMEOUT_S
from benchmarks.coldpath.variants import DEMO_MODEL, FAST_NIC
from benchmarks.consolidation.record import SwitchRecord, record_of
from benchmarks.consolidation.samples import Samples, StreamSample, SwitchRun
from benchmarks.consolidation.scene import MAX_SLOTS, Scene, open_scene
from benchmarks.consolidation.streams import Stream, prompt, running, until_tokens
from benchmarks.consolidation.workplace import Workplace
from tests.support.waiting import eventually

NUM_STREAMS = MAX_SLOTS
NUM_WORDS = 390  # with the tokens that come until the switch, contexts are of about 512 tokens
MAX_TOKENS = 500
NUM_TOKENS_AFTER = 15  # of each stream, on one worker


async def measure(place: Workplace, samples: Samples, num_switches: int) -> None:
    """Those that are missing."""
    for index in range(len(samples.switches), num_switches):
        run = await _measured(place, index)
        samples.add("pause", run)
        print(f"pause {index + 1}/{num_switches}: {_described(run)}", flush=True)


async def _measured(place: Workplace, index: int) -> SwitchRun:
    async with open_scene(place.scene(FAST_NIC, can_consolidate=True)) as scene:
        streams = await _ready_streams(scene, index)
        async with running(streams):
            await scene.until_state(DEMO_MODEL, "STANDALONE")
            most = max(stream.num_tokens for stream in streams)
            await until_tokens(streams, most + NUM_TOKENS_AFTER)
        return SwitchRun(index, _samples(streams), await recorded(scene, DEMO_MODEL))


async def recorded(scene: Scene, model: str) -> SwitchRecord:
    """Once the last heartbeats have told its steps."""
    endpoint, starts = await scene.endpoint(model), await scene.get(f"cold-starts?model={model}")
    assert endpoint is not None, "it is kept"
    start = next(start for start in starts if start["endpoint_id"] == endpoint["id"])

    async def whole() -> SwitchRecord | None:
        return record_of((await scene.get(f"cold-starts/{start['id']}"))["steps"])

    found: Any = await eventually(whole, timeout_s=TIMEOUT_S, poll_s=0.1, what="all its steps")
    return found


async def _ready_streams(scene: Scene, index: int) -> list[Stream]:
    """For a model that is cold."""
    await scene.until_ready()
    contents = [prompt(NUM_STREAMS * index + n, NUM_WORDS) for n in range(NUM_STREAMS)]
    return [Stream(scene.http, DEMO_MODEL, content, MAX_TOKENS) for content in contents]


def _samples(streams: Sequence[Stream]) -> tuple[StreamSample, ...]:
    return tuple(StreamSample(s.num_prompt_tokens, tuple(s.arrivals)) for s in streams)


def _described(run: SwitchRun) -> str:
    record = run.record
    return (
        f"loaded in {record.loaded_at_s - record.loading_at_s:.1f} s, one worker "
        f"{record.first_token_to_standalone_s:.1f} s after the first token; drain "
        f"{1000 * (record.drained_at_s - record.frozen_at_s):.0f} ms, move "
        f"{1000 * (record.moved_at_s - record.drained_at_s):.0f} ms, first step "
        f"{1000 * (record.stepped_at_s - record.moved_at_s):.0f} ms; {record.num_moved} moved, "
        f"{record.num_recomputed} computed again"
    )
