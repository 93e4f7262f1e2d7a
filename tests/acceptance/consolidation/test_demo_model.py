"""The demo's model in the engine itself: wherever a switch falls, nothing changes."""

import random
from collections.abc import Iterator

import pytest
import torch

from deploy.local.demo_model import ensure_demo_model
from deploy.local.state.state_folder import StateFolder
from services.worker.frames.dataplane import Security
from tests.acceptance.conftest import model_cache
from tests.support.equality import TokenEquality
from tests.support.smollm2 import Reference, converted
from tests.unit.worker.engine.consolidation.consolidating import Results, run_all
from tests.unit.worker.engine.consolidation.exactness import (
    KV_TOKENS,
    MAX_STEP_TOKENS,
    POSITIONS,
    check_same,
    consolidate_at,
    requests_of,
    spread,
)
from tests.unit.worker.engine.consolidation.sockets import socket_subjects
from tests.unit.worker.engine.imported import Imported

SAMPLE = random.Random(16).sample(POSITIONS, 1)  # each takes seconds


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Stages are threads themselves, and sums of more threads have another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    gguf = ensure_demo_model(StateFolder.from_environment().sources)
    reference = Reference(converted(gguf, model_cache()), torch.float32)
    return Imported(reference.model, tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def alone(model: Imported) -> Results:
    """What each request says by itself on the whole model."""
    said: Results = {}
    for request in requests_of(model):
        said |= run_all(model.engine(kv_tokens=KV_TOKENS), [request])
    return said


def changes_nothing(
    model: Imported, alone: Results, equality: TokenEquality, position: int
) -> None:
    chance, num_stages = random.Random(position), 2 + position % 3
    layers = list(spread(num_stages, model.config.num_layers, chance))
    options = {"max_step_tokens": MAX_STEP_TOKENS, "kv_tokens": KV_TOKENS}
    with socket_subjects(model, layers, chance, Security.CURVE, **options) as subjects:
        results = consolidate_at(subjects, position)
        subjects.close_ring()

    check_same(f"{num_stages} stages, token {position}", results, alone, equality)


@pytest.mark.parametrize("position", SAMPLE)
def test_a_switch_at_some_tokens_changes_nothing(
    model: Imported, alone: Results, equality: TokenEquality, position: int
) -> None:
    changes_nothing(model, alone, equality, position)


@pytest.mark.long
@pytest.mark.parametrize("position", POSITIONS)
def test_a_switch_at_every_token_changes_nothing(
    model: Imported, alone: Results, equality: TokenEquality, position: int
) -> None:
    changes_nothing(model, alone, equality, position)
