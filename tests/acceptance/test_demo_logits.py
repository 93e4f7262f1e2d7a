"""The demo's model in the engine itself: its logits are those of transformers."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest
import torch

from deploy.local.demo_model import ensure_demo_model
from deploy.local.state.state_folder import StateFolder
from services.worker.engine.attention.spans import Span
from services.worker.engine.model.config import parse_config
from services.worker.engine.model.packing import Packer
from tests.acceptance.conftest import model_cache
from tests.support.smollm2 import Reference, converted
from tests.support.weights import PackedWeights
from tests.unit.worker.engine.tiny import Subject, positions_of

QUESTIONS = ("What is the capital of France?", "Name three primary colours.")
NUM_TOKENS = 16  # of the answers, decoded one by one; the prompts are prefilled in two chunks
MAX_ERROR_FP32 = 1e-4  # as a share of the largest logit
# Of our error to theirs. Both are chance, and all logits of a token err together: few samples.
MAX_RATIO_BF16 = 1.4


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return converted(ensure_demo_model(StateFolder.from_environment().sources), model_cache())


@cache
def reference(checkpoint: Path, dtype: torch.dtype, weights_like: torch.dtype) -> Reference:
    return Reference(checkpoint, dtype, weights_like=weights_like)


@pytest.fixture(scope="module")
def answers(checkpoint: Path) -> dict[str, list[int]]:
    speaker = reference(checkpoint, torch.float32, torch.float32)
    return {question: speaker.greedy(question, NUM_TOKENS).token_ids for question in QUESTIONS}


@pytest.mark.parametrize(
    ("dtype", "is_packed"),
    [(torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)],
    ids=["float32", "bfloat16", "bfloat16 packed"],
)
def test_the_logits_of_an_answer_are_those_of_transformers(
    checkpoint: Path,
    answers: dict[str, list[int]],
    tmp_path: Path,
    dtype: torch.dtype,
    is_packed: bool,
) -> None:
    theirs, exactly = (reference(checkpoint, type_, dtype) for type_ in (dtype, torch.float32))
    subject = Subject(
        theirs.model,
        parse_config(theirs.model.config.to_diff_dict()),
        PackedWeights(_state(theirs), tmp_path),
        dtype,
    )
    ours = torch.cat(
        [
            decoded(subject, theirs.prompt_ids(question), tokens, is_packed=is_packed)
            for question, tokens in answers.items()
        ]
    )
    exact = torch.cat([exactly.logits_along(*answer) for answer in answers.items()])
    if dtype is torch.float32:
        assert (ours - exact).abs().max() <= MAX_ERROR_FP32 * exact.abs().max()
    else:
        error = rms(torch.cat([theirs.logits_along(*a) for a in answers.items()]) - exact)
        print(f"\nour error is {rms(ours - exact) / error:.3f} of transformers'")
        assert 1 / MAX_RATIO_BF16 <= rms(ours - exact) / error <= MAX_RATIO_BF16


def _state(source: Reference) -> dict[str, torch.Tensor]:
    """Without the head, which is the embedding."""
    state: dict[str, torch.Tensor] = source.model.state_dict()
    return {name: tensor for name, tensor in state.items() if name != "lm_head.weight"}


@torch.inference_mode()
def decoded(
    subject: Subject, prompt: Sequence[int], tokens: Sequence[int], *, is_packed: bool
) -> torch.Tensor:
    """`[tokens, vocabulary]`: row i decides token i."""
    num_layers = subject.config.num_layers
    stage, cache = subject.stage(range(num_layers), is_entry=True), subject.cache(num_layers)
    for _ in stage.load_units():
        continue
    packer = Packer(stage.matrices, budget_bytes=2**30 if is_packed else 0)
    while packer.pack_next():
        continue
    half = len(prompt) // 2
    rows, ids, start = [], [*prompt, *tokens], 0
    for length in (half, len(prompt) - half, *[1] * (len(tokens) - 1)):
        end = start + length
        span = Span(0, length, kv_start=3, kv_length=end)
        positions = torch.tensor(positions_of(span))
        hidden = stage.embed(torch.tensor(ids[start:end]), positions)
        hidden = stage.run_layers(hidden, subject.context((span,)), cache)
        rows.append(stage.logits(hidden[-1:]))
        start = end
    return torch.cat(rows[1:])


def rms(values: torch.Tensor) -> float:
    return values.float().pow(2).mean().sqrt().item()
