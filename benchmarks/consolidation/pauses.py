"""Switches under load, and the same streams on pipelines that stay what they are, in turn."""

from collections.abc import Sequence
from typing import Any

from benchmarks.coldpath.readiness import TIMEOUT_S
from benchmarks.coldpath.variants import DEMO_MODEL, FAST_NIC
from benchmarks.consolidation.record import SwitchRecord, record_of
from benchmarks.consolidation.samples import Samples, StreamSample, SwitchRun
from benchmarks.consolidation.scene import MAX_SLOTS, Scene, SceneOptions, open_scene
from benchmarks.consolidation.streams import Stream, prompt, running, until_tokens
from benchmarks.consolidation.workplace import Workplace
from tests.support.waiting import eventually

NUM_STREAMS = MAX_SLOTS
NUM_WORDS = 390  # with the tokens that come until the switch, contexts are of about 512 tokens
MAX_TOKENS = 500
NUM_TOKENS_AFTER = 15  # of each stream, on one worker


async def measure(place: Workplace, samples: Samples, num_switches: int) -> None:
    """Those that are missing: of each index one with a consolidation, then one without."""
    for index in range(num_switches):
        own = [run for run in samples.switches if run.index == index]
        whole = next((run for run in own if run.record is not None), None)
        if whole is None:
            whole = await _consolidated(place, index)
            samples.add("pause", whole)
            print(f"pause {index + 1}/{num_switches}: {_described(whole)}", flush=True)
        if not any(run.record is None for run in own):
            num_tokens = tokens_until_loaded(whole)
            samples.add("pause", await _undisturbed(place, index, num_tokens))
            print(f"pause {index + 1}/{num_switches}: {num_tokens} tokens without", flush=True)


def tokens_until_loaded(run: SwitchRun) -> int:
    """Of the stream that had most of them by then."""
    assert run.record is not None, "it was consolidated"
    loaded_at_s = run.record.loaded_at_s
    return max(
        max((a.num_tokens for a in s.arrivals if a.at_s <= loaded_at_s), default=0)
        for s in run.streams
    )


async def _consolidated(place: Workplace, index: int) -> SwitchRun:
    async with open_scene(_options(place, can_consolidate=True)) as scene:
        streams = await _ready_streams(scene, index)
        async with running(streams):
            await scene.until_state(DEMO_MODEL, "STANDALONE")
            most = max(stream.num_tokens for stream in streams)
            await until_tokens(streams, most + NUM_TOKENS_AFTER)
        return SwitchRun(index, _samples(streams), await recorded(scene, DEMO_MODEL))


async def _undisturbed(place: Workplace, index: int, num_tokens: int) -> SwitchRun:
    async with open_scene(_options(place, can_consolidate=False)) as scene:
        streams = await _ready_streams(scene, index)
        async with running(streams):
            await until_tokens(streams, num_tokens)
        endpoint = await scene.endpoint(DEMO_MODEL)
        assert endpoint is not None and endpoint["state"] == "PIPELINED", endpoint
        return SwitchRun(index, _samples(streams), None)


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


def _options(place: Workplace, *, can_consolidate: bool) -> SceneOptions:
    return place.scene(FAST_NIC, can_consolidate=can_consolidate)


def _samples(streams: Sequence[Stream]) -> tuple[StreamSample, ...]:
    return tuple(StreamSample(s.num_prompt_tokens, tuple(s.arrivals)) for s in streams)


def _described(run: SwitchRun) -> str:
    record = run.record
    assert record is not None, "it was consolidated"
    return (
        f"loaded in {record.loaded_at_s - record.loading_at_s:.1f} s, one worker "
        f"{record.first_token_to_standalone_s:.1f} s after the first token; drain "
        f"{1000 * (record.drained_at_s - record.frozen_at_s):.0f} ms, move "
        f"{1000 * (record.moved_at_s - record.drained_at_s):.0f} ms, first step "
        f"{1000 * (record.stepped_at_s - record.moved_at_s):.0f} ms; {record.num_moved} moved, "
        f"{record.num_recomputed} computed again"
    )
