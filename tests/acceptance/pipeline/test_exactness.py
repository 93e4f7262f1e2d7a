"""A real model says through the whole stack what transformers says, whatever its stages.

In company that is asked of float32. In bfloat16 transformers does not agree with itself: with the
whole text in one pass, or in a batch, it parts from its own generation at 8 and 7 of 20 prompts of
32 tokens, at gaps of the two best logits up to 0.3. Kernels sum a product of many rows in another
order than one of few, and a sum half-way between two bfloat16 numbers then goes to the other one.
Alone, our engine takes the very steps of transformers' generation, so there bfloat16 is compared.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch

from deploy.local.demo_model import ensure_demo_model
from deploy.local.stack import LocalStack
from deploy.local.state.state_folder import StateFolder
from tests.acceptance.client import Client
from tests.acceptance.conftest import model_cache
from tests.acceptance.pipeline.driving.model_session import ModelSession, TokenAnswer, open_session
from tests.support.equality import TokenEquality, is_greedy_near_tie
from tests.support.figures import Figure
from tests.support.smollm2 import Reference, converted

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(900)]

MAX_LOGPROB_ERROR = 1e-4
QUESTIONS = (
    "What is the capital of France?",
    "Name three primary colours.",
    "What is 2 + 2?",
    "Write a haiku about the sea.",
    "Who wrote Romeo and Juliet?",
    "Explain photosynthesis in one sentence.",
    "Translate 'good morning' into Spanish.",
    "What is the boiling point of water?",
    "List the days of the week.",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "What does a compiler do?",
    "Tell me a fact about whales.",
    "How many legs does a spider have?",
    "What is the largest planet?",
    "Finish the sentence: once upon a time",
    "What is gravity?",
    "Suggest a name for a cat.",
    "How do vaccines work?",
    "What is the opposite of hot?",
)


@pytest.fixture(scope="module")
def gguf() -> Path:
    """The demo's model; `make test` has fetched it."""
    return ensure_demo_model(StateFolder.from_environment().sources)


@pytest.fixture(scope="module")
def checkpoint(gguf: Path) -> Path:
    return converted(gguf, model_cache())


@pytest.mark.parametrize(
    ("stage_counts", "num_prompts", "num_tokens", "weights_like"),
    [
        pytest.param((4, 1), 8, 12, torch.float32, id="8 of 12 tokens, 4 and 1 stages"),
        # Other weights than the first: those are in the host caches by now.
        pytest.param(
            *((4, 3, 2, 1), len(QUESTIONS), 32, torch.bfloat16),
            id="20 of 32 tokens, every number of stages",
            marks=pytest.mark.long,
        ),
    ],
)
async def test_prompts_in_company_during_and_after_a_cold_start_give_transformers_tokens(
    wide_client: Client,
    wide_stack: LocalStack,
    checkpoint: Path,
    sources: Path,
    stage_counts: Sequence[int],
    num_prompts: int,
    num_tokens: int,
    weights_like: torch.dtype,
    equality: TokenEquality,
    figure: Figure,
) -> None:
    reference = Reference(checkpoint, torch.float32, weights_like=weights_like)
    logits_along = cache(reference.logits_along)  # nearly always the same, whatever the stages
    name = f"float32-{len(stage_counts)}"
    source = reference.save(sources / name)
    async with open_session(wide_client, wide_stack, name, source, reference) as session:
        for num_stages in stage_counts:  # downwards: one node with all units needs no other
            questions = QUESTIONS[:num_prompts]
            said = await ask_cold_and_warm(session, num_stages, questions, num_tokens)
            answers = dict(zip(questions, said, strict=True))
            check_all(equality, logits_along, f"{num_stages} stages", answers)
    figure(f"{num_tokens} tokens, stages {stage_counts}: {equality}: {equality.ties}")
    equality.check()


async def ask_cold_and_warm(
    session: ModelSession, num_stages: int, questions: Sequence[str], num_tokens: int
) -> list[TokenAnswer]:
    """Half of the questions together while the model starts, the others together afterwards."""
    middle = len(questions) // 2
    await session.limit_stages(num_stages)
    cold = await session.ask_together(questions[:middle], num_tokens)
    warm = await session.ask_together(questions[middle:], num_tokens)
    await session.check_stages(num_stages)
    return cold + warm


def check_all(
    equality: TokenEquality,
    logits_along: Callable[[str, Sequence[int]], torch.Tensor],
    where: str,
    answers: Mapping[str, TokenAnswer],
) -> None:
    """Each token is transformers' choice after those before it, and as likely as it says."""
    for question, said in answers.items():
        logits = logits_along(question, said.token_ids)
        equality.judge(f"{where}, {question}", said.token_ids, logits)
        ids = torch.tensor(said.token_ids[: len(said.logprobs)]).unsqueeze(1)
        expected = logits[: len(ids)].log_softmax(-1).gather(1, ids).squeeze(1)
        error = (torch.tensor(said.logprobs) - expected).abs().max()
        assert error <= MAX_LOGPROB_ERROR, f"{where}, {question}: {error}"


@pytest.mark.long
async def test_twenty_prompts_in_turn_give_transformers_tokens_also_in_bfloat16(
    wide_client: Client,
    wide_stack: LocalStack,
    gguf: Path,
    checkpoint: Path,
    sources: Path,
    equality: TokenEquality,
    figure: Figure,
) -> None:
    reference, num_tokens = Reference(checkpoint, torch.bfloat16), 32
    source = shutil.copy(gguf, sources)  # so that the import converts it
    answers: dict[int, list[TokenAnswer]] = {}
    async with open_session(
        wide_client, wide_stack, "bfloat16", Path(source), reference
    ) as session:
        assert (await wide_client.model(session.model))["dtype"] == "BF16"
        for num_stages in (4, 3, 2, 1):
            await session.limit_stages(num_stages)
            answers[num_stages] = await session.ask_in_turn(QUESTIONS, num_tokens)
            await session.check_stages(num_stages)

    # A warm stage packs its weights while it answers, which rounds bfloat16 products otherwise.
    for question, *said in zip(QUESTIONS, *answers.values(), strict=True):
        expected = reference.greedy(question, num_tokens)
        is_near_tie = [is_greedy_near_tie(row) for row in expected.logits]
        for num_stages, answer in zip(answers, said, strict=True):
            where = f"{num_stages} stages, {question}"
            tie = is_near_tie.__getitem__
            equality.compare(where, answer.token_ids, expected.token_ids, tie)
    figure(f"bfloat16, {num_tokens} tokens, 4, 3, 2 and 1 stages: {equality}: {equality.ties}")
    equality.check()
