"""The forward pass against transformers, in float32."""

from collections.abc import Callable, Sequence

import pytest
import torch

from services.worker.engine.attention.spans import Span
from services.worker.engine.model.stage import Stage
from tests.unit.worker.engine.tiny import SHAPES, Shape, Tiny, positions_of

MakeTiny = Callable[[Shape], Tiny]
LENGTH = 70  # beyond the original context of the llama3 scaling

CHUNKINGS = {
    "one prefill": (LENGTH,),
    "prefill, then decode": (LENGTH - 6, 1, 1, 1, 1, 1, 1),
    "chunked prefill": (1, 16, 7, 32, LENGTH - 56),
    "decode from the first token": (1,) * LENGTH,
}

with_every_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)


def assert_logits_agree(actual: torch.Tensor, expected: torch.Tensor) -> None:
    scale = expected.abs().max()
    assert (actual - expected).abs().max() <= 1e-4 * scale


@torch.inference_mode()
def forward(
    tiny: Tiny, stages: Sequence[Stage], token_ids: tuple[int, ...], chunks: Sequence[int]
) -> torch.Tensor:
    """`[tokens, vocabulary]`: embed and head on the first stage, layers on all of them."""
    caches = [tiny.cache(len(stage.layers)) for stage in stages]
    rows, start = [], 0
    for length in chunks:
        context = tiny.context((Span(0, length, kv_start=3, kv_length=start + length),))
        inputs = torch.tensor(token_ids[start : start + length])
        hidden = stages[0].embed(inputs, torch.arange(start, start + length))
        for stage, cache in zip(stages, caches, strict=True):
            hidden = stage.run_layers(hidden, context, cache)
        rows.append(stages[0].logits(hidden))
        start += length
    return torch.cat(rows)


@with_every_shape
@pytest.mark.parametrize("chunks", CHUNKINGS.values(), ids=CHUNKINGS.keys())
def test_logits_of_every_position_agree(
    make_tiny: MakeTiny, shape: Shape, chunks: tuple[int, ...]
) -> None:
    tiny = make_tiny(shape)
    token_ids = tiny.prompt(LENGTH)

    whole = tiny.stage(range(tiny.config.num_layers), is_entry=True)
    logits = forward(tiny, [whole], token_ids, chunks)

    assert_logits_agree(logits, tiny.reference_logits(token_ids))


@with_every_shape
def test_a_split_at_any_layer_boundary_changes_nothing(make_tiny: MakeTiny, shape: Shape) -> None:
    tiny = make_tiny(shape)
    token_ids, num_layers = tiny.prompt(LENGTH), tiny.config.num_layers
    chunks = CHUNKINGS["chunked prefill"]
    whole = forward(tiny, [tiny.stage(range(num_layers), is_entry=True)], token_ids, chunks)

    for boundary in range(num_layers + 1):
        stages = [
            tiny.stage(range(boundary), is_entry=True),
            tiny.stage(range(boundary, num_layers), is_entry=False),
        ]
        assert torch.equal(forward(tiny, stages, token_ids, chunks), whole)


@with_every_shape
@torch.inference_mode()
def test_sequences_of_one_step_do_not_see_each_other(make_tiny: MakeTiny, shape: Shape) -> None:
    """A decode, a first chunk and a later chunk in one step, out of order in the cache."""
    tiny = make_tiny(shape)
    stage = tiny.stage(range(tiny.config.num_layers), is_entry=True)
    cache = tiny.cache(tiny.config.num_layers)
    first, second, third = tiny.prompt(20, 1), tiny.prompt(11, 2), tiny.prompt(33, 3)
    for token_ids, kv_start in ((first[:-1], 100), (third[:13], 10)):
        length = len(token_ids)
        context = tiny.context((Span(0, length, kv_start, kv_length=length),))
        hidden = stage.embed(torch.tensor(token_ids), torch.arange(length))
        stage.run_layers(hidden, context, cache)

    spans = (Span(0, 1, 100, 20), Span(1, 11, 200, 11), Span(12, 20, 10, 33))
    inputs = torch.tensor([*first[-1:], *second, *third[13:]])
    positions = torch.tensor([position for span in spans for position in positions_of(span)])
    hidden = stage.run_layers(stage.embed(inputs, positions), tiny.context(spans), cache)
    logits = stage.logits(hidden)

    assert_logits_agree(logits[:1], tiny.reference_logits(first)[-1:])
    assert_logits_agree(logits[1:12], tiny.reference_logits(second))
    assert_logits_agree(logits[12:], tiny.reference_logits(third)[13:])


def test_weights_are_taken_unit_by_unit_in_the_order_of_use(make_tiny: MakeTiny) -> None:
    tiny = make_tiny(SHAPES[0])
    tiny.weights.waited.clear()

    forward(tiny, [tiny.stage(range(3), is_entry=True)], tiny.prompt(2), (1, 1))

    assert [str(unit.kind) for unit in tiny.weights.waited] == [
        *("embedding", "layer", "layer", "layer", "final_norm", "lm_head")
    ]
    assert [unit.layer_index for unit in tiny.weights.waited[1:4]] == [0, 1, 2]
