"""In bfloat16 we are as near to the exact result as transformers, alone and in company.

Which of two near tokens wins is chance there, so tokens say little; the size of the error does not
depend on chance. One rounding more, in a norm or in the middle of a product, adds 7 to 40 %.
"""

import copy

import pytest
import torch
from transformers import PreTrainedModel

from services.worker.engine.attention.spans import Span
from services.worker.engine.model.packing import Packer
from services.worker.engine.model.stage import Stage
from tests.unit.worker.engine.tiny import Shape, Tiny

MAX_RATIO = 1.04  # ours are within 1 % of theirs
SHAPE = Shape(
    "bfloat16",
    num_heads=8,
    hidden_size=128,
    intermediate_size=256,
    num_layers=4,
    vocab_size=500,
)
NUM_SEQUENCES, PROMPT, DECODED = 8, 70, 30


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return Tiny(SHAPE, tmp_path_factory.mktemp("bfloat16"), torch.bfloat16)


@pytest.mark.parametrize("together", [1, NUM_SEQUENCES], ids=["alone", "in company"])
@pytest.mark.parametrize("is_packed", [False, True], ids=["zero-copy", "packed"])
def test_the_error_of_bfloat16_is_that_of_transformers(
    tiny: Tiny, together: int, is_packed: bool
) -> None:
    prompts = [tiny.prompt(PROMPT + DECODED, seed) for seed in range(NUM_SEQUENCES)]
    exact = torch.stack([tiny.reference_logits(ids) for ids in prompts])
    theirs = logits_of(in_bfloat16(tiny.reference), prompts)

    groups = [prompts[i : i + together] for i in range(0, NUM_SEQUENCES, together)]
    stage = loaded_stage(tiny, is_packed=is_packed)
    ours = torch.cat([decoded(tiny, stage, group) for group in groups])

    ratio = rms(ours - exact) / rms(theirs - exact)
    assert 1 / MAX_RATIO <= ratio <= MAX_RATIO


def rms(values: torch.Tensor) -> float:
    return values.pow(2).mean().sqrt().item()


def in_bfloat16(model: PreTrainedModel) -> PreTrainedModel:
    """Parameters only: as `from_pretrained` does it, rotary frequencies stay in float32."""
    narrow = copy.deepcopy(model)
    for parameter in narrow.parameters():
        parameter.data = parameter.data.bfloat16()
    return narrow


@torch.inference_mode()
def logits_of(model: PreTrainedModel, prompts: list[tuple[int, ...]]) -> torch.Tensor:
    """`[sequences, tokens, vocabulary]`."""
    logits: torch.Tensor = model(torch.tensor(prompts)).logits
    return logits


def loaded_stage(tiny: Tiny, *, is_packed: bool) -> Stage:
    stage = tiny.stage(range(SHAPE.num_layers), is_entry=True)
    for _ in stage.load_units():
        continue
    packer = Packer(stage.matrices, budget_bytes=2**30 if is_packed else 0)
    while packer.pack_next():
        continue
    assert all((matrix.packed is not None) is is_packed for matrix in stage.matrices)
    return stage


@torch.inference_mode()
def decoded(tiny: Tiny, stage: Stage, prompts: list[tuple[int, ...]]) -> torch.Tensor:
    """`[sequences, tokens, vocabulary]`: a prefill of all, then one token of each at a time."""
    cache = tiny.cache(SHAPE.num_layers, num_slots=len(prompts) * (PROMPT + DECODED))
    rows, start = [], 0
    for length in (PROMPT, *[1] * DECODED):
        end = start + length
        spans = tuple(
            Span(index * length, length, kv_start=index * len(prompts[0]), kv_length=end)
            for index in range(len(prompts))
        )
        inputs = torch.tensor([ids[start:end] for ids in prompts]).flatten()
        positions = torch.arange(start, end).repeat(len(prompts))
        hidden = stage.run_layers(stage.embed(inputs, positions), tiny.context(spans), cache)
        rows.append(stage.logits(hidden).view(len(prompts), length, -1))
        start = end
    return torch.cat(rows, 1).float()
