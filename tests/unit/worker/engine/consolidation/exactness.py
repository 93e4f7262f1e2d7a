"""What a consolidation must not change, and requests and models to show it with."""

import random
from collections.abc import Callable, Iterator

import torch

from libs.common.sampling import SamplingParameters
from services.worker.engine_port import KvTransfer, Request
from tests.support.equality import FP32_LOGIT_GAP, TokenEquality
from tests.unit.worker.engine.consolidation.consolidating import Results, Subjects, run_all
from tests.unit.worker.engine.families import Family
from tests.unit.worker.engine.imported import Imported
from tests.unit.worker.engine.pipelines import layers_of
from tests.unit.worker.engine.tiny import Subject

NUM_TOKENS = 96  # all three requests run at the switch
KV_TOKENS = 512
MAX_STEP_TOKENS = 24  # a prompt takes several steps
POSITIONS = range(65)
LOGPROB_DIFFERENCE = 1e-4
MAX_LOAD_STEPS = 200  # between two steps

Make = Callable[[Family], Imported]
Expected = Callable[[Family], Results]


def requests_of(model: Subject) -> list[Request]:
    greedy = SamplingParameters(NUM_TOKENS, seed=0, temperature=0, ignore_eos=True, num_logprobs=2)
    drawn = SamplingParameters(
        NUM_TOKENS, seed=5, temperature=0.8, top_p=0.9, ignore_eos=True, num_logprobs=2
    )
    penalised = SamplingParameters(
        NUM_TOKENS,
        seed=6,
        temperature=0,
        ignore_eos=True,
        num_logprobs=2,
        repetition_penalty=1.2,
        presence_penalty=0.4,
        frequency_penalty=0.3,
    )
    return [
        Request("greedy", 1, model.prompt(9), greedy),
        Request("drawn", 1, model.prompt(33, 1), drawn),
        Request("penalised", 1, model.prompt(2, 2), penalised),
    ]


def begin_at(subjects: Subjects, position: int) -> Callable[[Results], None]:
    """Once the first request runs and has so many tokens. All is loaded as soon as it can be, so
    that the switch falls as soon after it as keys and values can be here."""
    beginnings = iter([subjects.begin])

    def between(results: Results) -> None:
        is_running = subjects.engine.stats.num_running > 0
        if not is_running or len(results["greedy"].token_ids) < position:
            return
        if begin := next(beginnings, None):
            begin()
        for _ in range(MAX_LOAD_STEPS):
            if not subjects.told.names:
                subjects.engine.optimize_step()

    return between


def check_same(name: str, actual: Results, alone: Results, equality: TokenEquality) -> None:
    for request_id, expected in alone.items():
        result = actual[request_id]

        def is_near_tie(index: int, of: str = request_id) -> bool:
            best, second = (logprob for _, logprob in alone[of].logprobs[index].top[:2])
            return of == "greedy" and best - second <= FP32_LOGIT_GAP

        equality.compare(f"{name} {request_id}", result.token_ids, expected.token_ids, is_near_tie)
        if result.token_ids == expected.token_ids:
            for ours, theirs in zip(result.logprobs, expected.logprobs, strict=True):
                assert abs(ours.logprob - theirs.logprob) < LOGPROB_DIFFERENCE


def spread(num_stages: int, num_layers: int, chance: random.Random) -> Iterator[range]:
    yield from layers_of(
        tuple(chance.randint(0, num_layers) for _ in range(num_stages - 1)), num_layers
    )


def check_cache(subjects: Subjects) -> None:
    """Keys and values that came are bit by bit those of the stages that computed them."""
    exports, whole = subjects.exports, subjects.engine.cache
    first_layer = whole.num_layers
    for follower in reversed(subjects.followers):
        first_layer -= follower.cache.num_layers
        layers = slice(first_layer, first_layer + follower.cache.num_layers)
        for export in exports:
            start = export.region_start + export.start
            moved = whole.read(start, export.length)[layers]
            assert torch.equal(moved, follower.cache.read(start, export.length))
    assert exports


def consolidate_at(subjects: Subjects, position: int) -> Results:
    """What its requests have said, where it became one worker once the first had so many tokens."""
    subjects.told.when_stepped = lambda: check_cache(subjects)
    requests = requests_of(subjects.model)
    results = run_all(subjects.engine, requests, between=begin_at(subjects, position))
    told = subjects.told
    assert told.names == ["loaded", "copying", "freezing", "switched", "stepped"]
    assert told.result is not None and told.result.transfer is KvTransfer.MOVE
    assert subjects.engine.stats.kv_used_bytes == 0
    return results
