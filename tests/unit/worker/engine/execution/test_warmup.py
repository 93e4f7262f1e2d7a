"""A forward pass over weights that are not there yet."""

from pathlib import Path

import pytest
import torch

from libs.common.sampling import SamplingParameters
from libs.common.weights.manifest import UnitKind
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.execution.warmup import warm_up
from services.worker.engine.model.place import Place
from services.worker.engine.model.weights import UnitKey
from services.worker.engine_port import Request
from tests.support.failures import require_same_tokens
from tests.unit.worker.engine.families import FAMILIES, Family
from tests.unit.worker.engine.imported import Imported
from tests.unit.worker.engine.tiny import Subject, Tiny, generate

FAMILY_NAMES = [family.name for family in FAMILIES]


class Garbage:
    """Whatever lay in the memory: the worst of values."""

    def __init__(self, subject: Subject) -> None:
        self._weights = subject.weights
        self.touched: set[UnitKey] = set()

    def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
        self.touched.add(unit)

    def tensor(self, unit: UnitKey, name: str) -> torch.Tensor:
        return torch.full_like(self._weights.tensor(unit, name), torch.nan)

    @property
    def layers(self) -> set[int | None]:
        return {unit.layer_index for unit in self.touched if unit.kind is UnitKind.LAYER}


@pytest.mark.parametrize("family", FAMILIES, ids=FAMILY_NAMES)
def test_every_family_bears_garbage_for_weights(family: Family, tmp_path: Path) -> None:
    model = Imported(family.build(next(iter(family.shapes))), tmp_path)
    garbage = Garbage(model)
    whole = Place.whole(model.config.num_layers)

    warm_up(model.config, garbage, model.engine_options(), whole, model.engine().cache)

    windows = model.config.attention.windows
    assert {windows[layer or 0] for layer in garbage.layers} == set(windows)
    assert len(garbage.layers) == len(set(windows))  # one layer of each kind, they alternate


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(Place(0, 3, range(0, 0)), id="entry without layers"),
        pytest.param(Place(0, 3, range(0, 1)), id="entry"),
        pytest.param(Place(1, 3, range(1, 2)), id="in the middle"),
        pytest.param(Place(2, 3, range(1, 3)), id="last"),
    ],
)
def test_every_stage_runs_a_part_of_its_own_only(tiny: Tiny, place: Place) -> None:
    garbage = Garbage(tiny)

    cache = tiny.cache(len(place.layers), num_slots=128)
    warm_up(tiny.config, garbage, tiny.engine_options(kv_tokens=128), place, cache)

    assert garbage.layers == set(place.layers[:1])
    assert (UnitKey(UnitKind.FINAL_NORM) in garbage.touched) is place.is_entry


def test_a_context_of_few_tokens_is_enough(tiny: Tiny) -> None:
    options = tiny.engine_options(max_context_tokens=1)
    num_layers = tiny.config.num_layers
    warm_up(tiny.config, Garbage(tiny), options, Place.whole(num_layers), tiny.cache(num_layers))


def test_a_cache_of_few_slots_is_enough(tiny: Tiny) -> None:
    num_layers = tiny.config.num_layers
    cache = tiny.cache(num_layers, num_slots=2)
    warm_up(tiny.config, Garbage(tiny), tiny.engine_options(), Place.whole(num_layers), cache)


def test_the_engines_cache_is_used_and_nothing_of_it_is_left(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = tiny.engine()
    monkeypatch.setattr(KvCache, "allocate", lambda *_, **__: pytest.fail("a second cache"))

    whole = Place.whole(tiny.config.num_layers)
    warm_up(tiny.config, Garbage(tiny), tiny.engine_options(), whole, engine.cache)

    num_written = min(engine.cache.num_slots, tiny.engine_options().max_context_tokens - 1)
    assert not engine.cache.keys[0][:num_written].any()
    assert not engine.cache.values[0][:num_written].any()
    prompt = tiny.prompt(9)
    request = Request(
        "a", 1, prompt, SamplingParameters(8, seed=0, temperature=0.0, ignore_eos=True)
    )
    tokens = generate(engine, request)["a"].token_ids
    require_same_tokens(tokens, tiny.reference_tokens(prompt, 8))
