"""Wherever the switch falls, tokens and log-probabilities are those of an undisturbed worker."""

import random
from itertools import product

import pytest

from tests.support.equality import TokenEquality
from tests.unit.worker.engine.consolidation.exactness import (
    KV_TOKENS,
    MAX_STEP_TOKENS,
    POSITIONS,
    Expected,
    Make,
    check_same,
    consolidate_at,
    spread,
)
from tests.unit.worker.engine.consolidation.lanes import make_subjects
from tests.unit.worker.engine.families import FAMILIES, Family

Case = tuple[Family, int, int]
CASES = list(product(FAMILIES, (2, 3, 4), POSITIONS))
SAMPLE = random.Random(13).sample(CASES, 42)


def case_id(case: Case) -> str:
    family, num_stages, position = case
    return f"{family.name}, {num_stages} stages, token {position}"


def changes_nothing(make: Make, expected: Expected, equality: TokenEquality, case: Case) -> None:
    family, num_stages, position = case
    model, chance = make(family), random.Random(case_id(case))
    layers = list(spread(num_stages, model.config.num_layers, chance))
    subjects = make_subjects(
        model, layers, chance, max_step_tokens=MAX_STEP_TOKENS, kv_tokens=KV_TOKENS
    )

    results = consolidate_at(subjects, position)

    check_same(case_id(case), results, expected(family), equality)
    subjects.close_ring()
    assert [len(lane.messages) for lane in subjects.pipeline.lanes] == [0] * (num_stages - 1) + [1]
    assert all(sender.is_closed for sender in subjects.senders)


@pytest.mark.parametrize("case", SAMPLE, ids=case_id)
def test_a_switch_at_any_token_changes_nothing(
    make: Make, expected: Expected, equality: TokenEquality, case: Case
) -> None:
    changes_nothing(make, expected, equality, case)


@pytest.mark.long
@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_switch_at_every_token_changes_nothing(
    make: Make, expected: Expected, equality: TokenEquality, case: Case
) -> None:
    changes_nothing(make, expected, equality, case)
