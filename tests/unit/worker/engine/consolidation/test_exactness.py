"""Wherever the switch falls, tokens and log-probabilities are those of an undisturbed worker."""

import random
from collections.abc import Callable, Iterator
from functools import cache
from itertools import product

import pytest
import torch

from libs.common.sampling import SamplingParameters
from services.worker.engine_port import KvTransfer, Request
from tests.support.equality import FP32_LOGIT_GAP, TokenEquality
from tests.unit.worker.engine.consolidation.consolidating import (
    Results,
    Subjects,
    make_subjects,
    run_all,
)
from tests.unit.worker.engine.families import FAMILIES, Family
from tests.unit.worker.engine.imported import Imported
from tests.unit.worker.engine.pipelines import layers_of
from tests.unit.worker.engine.tiny import Subject

NUM_TOKENS = 96  # all three requests run at the switch
POSITIONS = range(65)
CASES = list(product(FAMILIES, (2, 3, 4), POSITIONS))
SAMPLE = random.Random(13).sample(CASES, 42)
LOGPROB_DIFFERENCE = 1e-4

Make = Callable[[Family], Imported]
Expected = Callable[[Family], Results]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    @cache
    def build(family: Family) -> Imported:
        shape = next(iter(family.shapes))
        return Imported(family.build(shape), tmp_path_factory.mktemp(family.name))

    return build


@pytest.fixture(scope="module")
def expected(make: Make) -> Expected:
    """Of each request alone on the whole model."""

    @cache
    def results(family: Family) -> Results:
        model = make(family)
        alone: Results = {}
        for request in requests_of(model):
            alone |= run_all(model.engine(kv_tokens=512), [request])
        return alone

    return results


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
    """Once the first request has so many tokens."""
    beginnings = iter([subjects.begin])

    def between(results: Results) -> None:
        if len(results["greedy"].token_ids) >= position and (begin := next(beginnings, None)):
            begin()

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


def case_id(case: tuple[Family, int, int]) -> str:
    family, num_stages, position = case
    return f"{family.name}, {num_stages} stages, token {position}"


def consolidate_at(
    make: Make, expected: Expected, equality: TokenEquality, case: tuple[Family, int, int]
) -> None:
    family, num_stages, position = case
    model, chance = make(family), random.Random(case_id(case))
    layers = list(spread(num_stages, model.config.num_layers, chance))
    subjects = make_subjects(model, layers, chance, max_step_tokens=24, kv_tokens=512)
    subjects.told.when_stepped = lambda: check_cache(subjects)

    results = run_all(subjects.engine, requests_of(model), between=begin_at(subjects, position))

    told = subjects.told
    assert told.names == ["loaded", "copying", "freezing", "switched", "stepped"]
    assert told.result is not None and told.result.transfer is KvTransfer.MOVE
    check_same(case_id(case), results, expected(family), equality)
    assert subjects.engine.stats.kv_used_bytes == 0
    subjects.close_ring()
    assert [len(lane.messages) for lane in subjects.pipeline.lanes] == [0] * (num_stages - 1) + [1]


def spread(num_stages: int, num_layers: int, chance: random.Random) -> Iterator[range]:
    yield from layers_of(
        tuple(chance.randint(0, num_layers) for _ in range(num_stages - 1)), num_layers
    )


def check_cache(subjects: Subjects) -> None:
    """Keys and values that came are bit by bit those of the stages that computed them."""
    exports, whole = subjects.pipeline.lanes[0].exports, subjects.engine.cache
    first_layer = whole.num_layers
    for follower in reversed(subjects.pipeline.followers):
        first_layer -= follower.cache.num_layers
        layers = slice(first_layer, first_layer + follower.cache.num_layers)
        for export in exports:
            start = export.region_start + export.start
            moved = whole.read(start, export.length)[layers]
            assert torch.equal(moved, follower.cache.read(start, export.length))
    assert exports


@pytest.mark.parametrize("case", SAMPLE, ids=case_id)
def test_a_switch_at_any_token_changes_nothing(
    make: Make, expected: Expected, equality: TokenEquality, case: tuple[Family, int, int]
) -> None:
    consolidate_at(make, expected, equality, case)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_switch_at_every_token_changes_nothing(
    make: Make, expected: Expected, equality: TokenEquality, case: tuple[Family, int, int]
) -> None:
    consolidate_at(make, expected, equality, case)
