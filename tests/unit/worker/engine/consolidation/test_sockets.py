"""Wherever the switch falls, nothing changes, also over the sockets that real stages have."""

import random
from itertools import product

import pytest

from services.worker.frames.dataplane import Security
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
from tests.unit.worker.engine.consolidation.sockets import socket_subjects
from tests.unit.worker.engine.families import FAMILIES, Family

Case = tuple[Family, int, int]
CASES = list(product(FAMILIES, (2, 3, 4), POSITIONS))
SAMPLE = random.Random(14).sample(CASES, 16)


def case_id(case: Case) -> str:
    family, num_stages, position = case
    return f"{family.name}, {num_stages} stages, token {position}"


def changes_nothing(make: Make, expected: Expected, equality: TokenEquality, case: Case) -> None:
    family, num_stages, position = case
    model, chance = make(family), random.Random(case_id(case))
    layers = list(spread(num_stages, model.config.num_layers, chance))
    security = chance.choice(list(Security))
    with socket_subjects(
        *(model, layers, chance, security), max_step_tokens=MAX_STEP_TOKENS, kv_tokens=KV_TOKENS
    ) as subjects:
        results = consolidate_at(subjects, position)
        subjects.close_ring()

    check_same(case_id(case), results, expected(family), equality)


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
