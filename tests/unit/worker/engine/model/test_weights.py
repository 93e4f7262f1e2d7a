"""Weights are shared and read-only: the engine views them and never writes."""

from pathlib import Path

import pytest
import torch

from libs.common.modelconfig.parts import Weight
from libs.common.weights.manifest import UnitKind
from services.worker.engine.errors import TensorError
from services.worker.engine.model.weights import UnitKey, UnitReader
from tests.support.weights import PackedWeights
from tests.unit.worker.engine.tiny import Tiny

LAYER = UnitKey(UnitKind.LAYER, 0)
PREFIX = "model.layers.0.self_attn"
NAMES = [f"{PREFIX}.{name}_proj.weight" for name in "qkv"]
WEIGHTS = [Weight(name, (rows, 64)) for name, rows in zip(NAMES, (64, 32, 32), strict=True)]


def reader(source: PackedWeights, dtype: torch.dtype = torch.float32) -> UnitReader:
    return UnitReader(source, LAYER, dtype)


def test_adjacent_tensors_are_stacked_without_a_copy(tiny: Tiny) -> None:
    stacked = reader(tiny.weights).stacked(WEIGHTS)

    parts = [tiny.weights.tensor(LAYER, name) for name in NAMES]
    assert stacked.data_ptr() == parts[0].data_ptr()
    assert torch.equal(stacked, torch.cat(parts))


def test_tensors_that_are_apart_are_stacked_by_a_copy(tiny: Tiny) -> None:
    apart = WEIGHTS[1:] + WEIGHTS[:1]

    stacked = reader(tiny.weights).stacked(apart)

    parts = [tiny.weights.tensor(LAYER, weight.name) for weight in apart]
    assert torch.equal(stacked, torch.cat(parts))


def test_the_mappings_of_the_weights_admit_no_write(tiny: Tiny) -> None:
    """So every test of this folder that runs a forward shows that it writes to no weight."""
    address = tiny.weights.tensor(LAYER, NAMES[0]).data_ptr()
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, _, rest = line.partition("-")
        end, permissions = rest.split()[:2]
        if int(start, 16) <= address < int(end, 16):
            assert permissions.startswith("r-")
            return
    raise AssertionError("the weight is not in any mapping")


def test_a_wrong_weight_is_named(tiny: Tiny) -> None:
    name = NAMES[0]

    with pytest.raises(
        TensorError, match=r"q_proj.weight: has shape \(64, 64\), expected \(9, 9\)"
    ):
        reader(tiny.weights).tensor(name, 9, 9)
    with pytest.raises(TensorError, match=r"q_proj.weight: is torch.float32, expected"):
        reader(tiny.weights, torch.bfloat16).tensor(name, 64, 64)
    with pytest.raises(TensorError, match=r"nothing: is not in the unit"):
        reader(tiny.weights).tensor("nothing", 1)
