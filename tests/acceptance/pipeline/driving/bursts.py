"""Many requests at the same moment to models of which nobody has asked anything yet."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from tests.acceptance.client import Client, Json
from tests.acceptance.pipeline.driving.expected_answers import ExpectedAnswer, expected_answers
from tests.acceptance.pipeline.driving.questions import (
    Question,
    QuestionResult,
    ask,
    require_right_tokens,
)
from tests.support.checkpoints import make_tiny_llama
from tests.support.waiting import eventually

NUM_TOKENS = 16
NUM_PROMPTS = 4


@dataclass(frozen=True)
class BurstModel:
    """Stored weights, to be registered under any name, and the answers it must give."""

    folder: Path
    answers: tuple[ExpectedAnswer, ...]

    @classmethod
    def make(cls, folder: Path, seed: int, hidden_size: int = 64) -> "BurstModel":
        make_tiny_llama(folder, seed=seed, num_layers=6, hidden_size=hidden_size, is_endless=True)
        return cls(folder, expected_answers(folder, NUM_PROMPTS, NUM_TOKENS))

    def questions(self, name: str, count: int) -> list[Question]:
        chosen = (self.answers[number % len(self.answers)] for number in range(count))
        return [Question(name, answer, NUM_TOKENS) for answer in chosen]


@dataclass(frozen=True)
class Figures:
    """Of the answered requests of one burst, in seconds."""

    num_answered: int
    num_refused: int
    first_text_p50_s: float
    first_text_p95_s: float
    ended_p50_s: float
    ended_p95_s: float

    @classmethod
    def of(cls, burst: Sequence[QuestionResult]) -> "Figures":
        answered = [asked for asked in burst if asked.is_right]
        first = [asked.first_text_s for asked in answered if asked.first_text_s is not None]
        ended = [asked.ended_s for asked in answered if asked.ended_s is not None]
        return cls(
            num_answered=len(answered),
            num_refused=sum(asked.is_refused for asked in burst),
            first_text_p50_s=percentile(first, 0.50),
            first_text_p95_s=percentile(first, 0.95),
            ended_p50_s=percentile(ended, 0.50),
            ended_p95_s=percentile(ended, 0.95),
        )

    def __str__(self) -> str:
        return (
            f"{self.num_answered:4} answered {self.num_refused:4} refused   first text "
            f"p50 {self.first_text_p50_s:6.2f} s  p95 {self.first_text_p95_s:6.2f} s   end "
            f"p50 {self.ended_p50_s:6.2f} s  p95 {self.ended_p95_s:6.2f} s"
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The least value that `share` of the values do not exceed (nearest rank)."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def spread(names: Sequence[str], models: Sequence[BurstModel], count: int) -> list[Question]:
    """`count` questions over all the models, as evenly as can be."""
    num_models = len(names)
    return [
        question
        for index, (name, model) in enumerate(zip(names, models, strict=True))
        for question in model.questions(name, (count + num_models - 1 - index) // num_models)
    ]


async def send(client: Client, questions: Sequence[Question]) -> list[QuestionResult]:
    """All at once; returns when the last one has ended."""
    return await asyncio.gather(*(ask(client, question) for question in questions))


async def cold_starts(client: Client, model: str) -> list[Json]:
    found: list[Json] = await client.get(f"/api/v1/cold-starts?model={model}&limit=200")
    return found


def check_answers(burst: Sequence[QuestionResult]) -> None:
    """Every one ended before its deadline: with its right answer, or refused and told for how
    long."""
    require_right_tokens(burst)
    wrong = [asked for asked in burst if not (asked.is_right or asked.is_refused)]
    assert not wrong, wrong[:3]
    late = [a for a in burst if a.ended_s is None or a.ended_s >= a.question.timeout_s]
    assert not late, late[:3]


async def check_one_start(client: Client, model: str) -> None:
    """Its record is complete with the nodes' next heartbeats."""

    async def have_ended() -> bool:
        return all(start["ended_at"] is not None for start in await cold_starts(client, model))

    await eventually(have_ended, timeout_s=30, poll_s=0.1, what="the end of the cold start")
    (start,) = await cold_starts(client, model)
    assert start["ready_at"] is not None and start["cause"] is None, start
