"""Stages behind the entry that become whole models of their own, starting empty."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import pytest

from services.worker.engine.engine import StageEngine
from services.worker.engine.execution.executor import Executor
from services.worker.engine.execution.follower import Follower
from services.worker.engine.model.place import Place
from services.worker.engine.model.weights import UnitKey
from services.worker.errors import WeightsUnavailable
from tests.support.equality import TokenEquality
from tests.unit.worker.engine.consolidation.consolidating import (
    ArrivingWeights,
    Results,
    Subjects,
    run_all,
)
from tests.unit.worker.engine.consolidation.exactness import (
    KV_TOKENS,
    MAX_STEP_TOKENS,
    POSITIONS,
    Expected,
    Make,
    begin_at,
    check_same,
    requests_of,
    spread,
)
from tests.unit.worker.engine.consolidation.lanes import make_subjects
from tests.unit.worker.engine.families import FAMILIES, Family
from tests.unit.worker.engine.pipelines import layers_of
from tests.unit.worker.engine.tiny import Subject, Tiny

Case = tuple[Family, int, int]
CASES = list(product(FAMILIES, (2, 3, 4), POSITIONS))
SAMPLE = random.Random(15).sample(CASES, 16)


@dataclass
class Told:
    """What a growth told, in order."""

    names: list[str] = field(default_factory=list)
    why: str = ""

    def loaded(self) -> None:
        self.names.append("loaded")

    def abandoned(self, why: str) -> None:
        self.names.append("abandoned")
        self.why = why


def begin(follower: Follower, model: Subject, chance: random.Random) -> Told:
    told = Told()
    follower.begin_growth(ArrivingWeights(model.weights, chance), told, packed_bytes=2**30)
    return told


def grown(follower: Follower, max_pieces: int = 20_000) -> Executor:
    """After the ring was closed."""
    for _ in range(max_pieces):
        if follower.whole is not None:
            return follower.whole
        follower.optimize_step()
    raise AssertionError("it did not become whole")


def engine_of(model: Subject, whole: Executor) -> StageEngine:
    options = model.engine_options(kv_tokens=KV_TOKENS)
    place = Place.whole(model.config.num_layers)
    return StageEngine(model.config, model.weights, options, place, executor=whole)


def run_growing(subjects: Subjects, followers: Sequence[Follower], position: int = 4) -> Results:
    """Consolidates the entry once the first request has so many tokens, with all that come
    later."""
    begin_entry = begin_at(subjects, position)

    def between(results: Results) -> None:
        begin_entry(results)
        for follower in followers:
            follower.optimize_step()

    return run_all(subjects.engine, requests_of(subjects.model), between=between)


def case_id(case: Case) -> str:
    family, num_stages, position = case
    return f"{family.name}, {num_stages} stages, token {position}"


def every_stage_grows(make: Make, expected: Expected, equality: TokenEquality, case: Case) -> None:
    family, num_stages, position = case
    model, chance = make(family), random.Random(case_id(case))
    layers = list(spread(num_stages, model.config.num_layers, chance))
    subjects = make_subjects(
        model, layers, chance, max_step_tokens=MAX_STEP_TOKENS, kv_tokens=KV_TOKENS
    )
    followers = subjects.followers
    told = [begin(follower, model, chance) for follower in followers]

    results = run_growing(subjects, followers, position)
    check_same(f"{case_id(case)}, the pipeline", results, expected(family), equality)
    assert all(follower.whole is None for follower in followers), "the ring is still open"
    subjects.close_ring()

    for index, follower in enumerate(followers):
        engine = engine_of(model, grown(follower))
        assert engine.stats.kv_used_bytes == 0
        alone = run_all(engine, requests_of(model))
        check_same(f"{case_id(case)}, stage {index + 1}", alone, expected(family), equality)
    assert [one.names for one in told] == [["loaded"]] * len(followers)


@pytest.mark.parametrize("case", SAMPLE, ids=case_id)
def test_every_stage_can_become_a_whole_model_of_its_own(
    make: Make, expected: Expected, equality: TokenEquality, case: Case
) -> None:
    every_stage_grows(make, expected, equality, case)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_every_stage_can_become_a_whole_model_whenever_the_entry_does(
    make: Make, expected: Expected, equality: TokenEquality, case: Case
) -> None:
    every_stage_grows(make, expected, equality, case)


@pytest.fixture
def subjects(tiny: Tiny) -> Subjects:
    return make_subjects(tiny, layers_of((1, 2), 3), random.Random(3), kv_tokens=KV_TOKENS)


def test_a_stage_that_grows_shares_the_weights_that_it_has(tiny: Tiny, subjects: Subjects) -> None:
    follower = subjects.followers[0]
    keys = follower.cache.keys[0]
    asked: list[UnitKey] = []

    class Counting(ArrivingWeights):
        def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
            asked.append(unit)
            super().wait_unit(unit, timeout_s)

    follower.begin_growth(Counting(tiny.weights, subjects.chance), Told(), packed_bytes=0)
    run_growing(subjects, [follower])
    subjects.close_ring()
    whole = grown(follower)

    assert {unit.layer_index for unit in asked} == {None, 0, 2}, "layer 1 is its own"
    assert any(keys.data_ptr() == own.data_ptr() for own in whole.cache.keys)


class Failing(ArrivingWeights):
    def is_ready(self, unit: UnitKey) -> bool:
        raise WeightsUnavailable("the fetcher has not the layers")


def test_what_cannot_be_loaded_leaves_the_stage_as_it_is(tiny: Tiny, subjects: Subjects) -> None:
    first, second = subjects.followers
    told = Told()
    first.begin_growth(Failing(tiny.weights, subjects.chance), told, packed_bytes=0)

    results = run_growing(subjects, [first, second])

    assert (told.names, told.why) == (["abandoned"], "the fetcher has not the layers")
    assert all(result.finish is not None for result in results.values())
    subjects.close_ring()
    assert first.whole is None and not first.optimize_step()


def test_one_that_was_given_up_can_be_begun_again(tiny: Tiny, subjects: Subjects) -> None:
    follower = subjects.followers[1]
    told = begin(follower, tiny, subjects.chance)
    follower.abandon_growth("the queue is empty")
    assert (told.names, told.why) == (["abandoned"], "the queue is empty")

    again = begin(follower, tiny, subjects.chance)
    run_growing(subjects, [follower])
    subjects.close_ring()

    alone = run_all(engine_of(tiny, grown(follower)), requests_of(tiny))
    assert all(result.finish is not None for result in alone.values())
    assert again.names == ["loaded"]


def test_a_stage_that_does_not_grow_becomes_nothing(subjects: Subjects) -> None:
    run_growing(subjects, [])
    subjects.close_ring()
    for follower in subjects.followers:
        assert follower.whole is None and not follower.optimize_step()
