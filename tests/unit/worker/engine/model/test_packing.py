"""Weights are packed when an endpoint is warm, a little at a time, as far as the plan allows."""

import random
from collections.abc import Iterator

import pytest
import torch

from libs.common.sampling import SamplingParameters
from services.worker.engine.engine import StageEngine
from services.worker.engine.model import packing
from services.worker.engine.model.linear import Linear
from services.worker.engine.model.packing import (
    PIECE_BYTES,
    Packable,
    Packer,
    is_packable,
    packed_bytes,
)
from services.worker.engine_port import Request
from tests.unit.worker.engine.pipelines import layers_of, make_pipeline
from tests.unit.worker.engine.tiny import Shape, Tiny, generate

SHAPE = Shape("packed", hidden_size=64, intermediate_size=128, head_dim=16, vocab_size=256)
NUM_MATRICES = 4 * SHAPE.num_layers + 1  # qkv, output, gate and up, down; the head


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(SHAPE, tmp_path_factory.mktemp("packed"), torch.bfloat16)


def matrix(num_rows: int, num_columns: int = 64, dtype: torch.dtype = torch.bfloat16) -> Linear:
    return Linear(torch.ones(num_rows, num_columns, dtype=dtype))


def loaded(engine: StageEngine) -> StageEngine:
    for _ in engine.load_units():
        continue
    return engine


def request(name: str, tiny: Tiny, num_tokens: int) -> Request:
    return Request(name, 1, tiny.prompt(9), SamplingParameters(num_tokens, seed=1, temperature=0.0))


def test_a_matrix_is_packed_in_pieces_and_its_own_kernel_serves_until_then() -> None:
    large = matrix(3 * PIECE_BYTES // 128)
    packer = Packer([large], budget_bytes=2**30)

    assert packer.pack_next() and packer.pack_next()
    assert large.packed is None
    assert packer.pack_next()
    assert large.packed is not None
    assert not packer.pack_next()


def test_only_what_the_budget_holds_is_packed() -> None:
    matrices = [matrix(64), matrix(1024), matrix(65)]
    budget = packed_bytes(matrices[0].weight) + packed_bytes(matrices[2].weight)
    packer = Packer(matrices, budget)

    while packer.pack_next():
        continue

    assert [one.packed is not None for one in matrices] == [True, False, True]
    assert packer.packed_bytes == budget == (64 + 128) * 64 * 2


def test_other_types_than_bfloat16_stay_as_they_are() -> None:
    assert not is_packable(matrix(64, dtype=torch.float32).weight)
    assert not is_packable(matrix(64, dtype=torch.float16).weight)
    assert not is_packable(torch.ones(64, 64, dtype=torch.bfloat16, device="meta"))


def test_nothing_is_packed_by_a_torch_without_the_operators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    large = matrix(1024)

    assert not Packer([large], budget_bytes=2**30).pack_next()
    assert large.packed is None


@pytest.mark.parametrize("error", [RuntimeError("could not create a primitive"), MemoryError()])
def test_a_piece_that_fails_ends_the_packing_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    matrices = [matrix(64), matrix(128)]
    packer = Packer(matrices, budget_bytes=2**30)

    def fail(matrix: Packable) -> Iterator[bool]:
        yield True
        raise error

    monkeypatch.setattr(packing, "_pack_matrix", fail)

    assert packer.pack_next()
    assert not packer.pack_next() and not packer.pack_next()
    assert [one.packed for one in matrices] == [None, None]


def test_nothing_is_packed_before_the_weights_are_there_and_the_first_tokens_out(
    tiny: Tiny,
) -> None:
    engine = tiny.engine(packed_bytes=2**30, max_step_tokens=8)
    assert not engine.optimize_step()
    loaded(engine)
    engine.add_request(request("r", tiny, 3))
    engine.step()  # the prompt is longer than this step
    assert not engine.optimize_step()
    assert engine.step()[0].token_ids

    assert sum(iter(engine.optimize_step, False)) == NUM_MATRICES


def test_without_a_budget_nothing_is_packed(tiny: Tiny) -> None:
    engine = loaded(tiny.engine())
    generate(engine, request("r", tiny, 2))

    assert not engine.optimize_step()


def test_stages_behind_the_entry_pack_once_a_sequence_decodes(tiny: Tiny) -> None:
    layers = layers_of((1,), SHAPE.num_layers)
    pipeline = make_pipeline(tiny, layers, random.Random(0), packed_bytes=2**30)
    (follower,) = pipeline.followers
    for _ in follower.load_units():
        continue
    generate(pipeline.engine, request("first", tiny, 1))
    assert not follower.optimize_step()

    generate(pipeline.engine, request("second", tiny, 2))

    assert sum(iter(follower.optimize_step, False)) == 4 * (SHAPE.num_layers - 1)
