"""Traces of requests, drawn from a seed. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.replay.models import ReplayModel
from services.scheduler.simulation.scenario.models import Lengths
from services.scheduler.simulation.workload import arrivals, lengths
from services.scheduler.simulation.workload.popularity import zipf

_TEXT = (
    "Tell me a long story about a river that had forgotten where the sea was, and about those who "
    "lived beside it, what they built, what they sang, and what they told each other in winter. "
)
# In characters, which are as many tokens of the small models, and a fourth of them of the demo's.
_QUESTION = Lengths(256, 0.5, 800)
_ANSWER = Lengths(16, 0.5, 40)


@dataclass(frozen=True)
class TraceRequest:
    index: int
    at_s: float  # since the trace began
    model: str
    num_characters: int  # of the question
    max_tokens: int

    @property
    def question(self) -> str:
        """Its end is cut; each begins elsewhere."""
        begin = 7 * self.index % len(_TEXT)
        turned = _TEXT[begin:] + _TEXT[:begin]
        return (turned * (1 + self.num_characters // len(_TEXT)))[: self.num_characters]


@dataclass(frozen=True)
class TraceShape:
    """How requests come: a Poisson process, models by Zipf in their order."""

    rate_per_s: float = 0.33
    zipf_exponent: float = 0.8
    question: Lengths = _QUESTION
    answer: Lengths = _ANSWER
    min_answer_tokens: int = 8


def draw(
    shape: TraceShape, models: Sequence[ReplayModel], duration_s: float, seed: int
) -> list[TraceRequest]:
    """As many as the rate says, exactly; the same for the same seed."""
    rng = np.random.default_rng(seed)
    count = max(1, round(shape.rate_per_s * duration_s))
    at_s = arrivals.given_count(rng, count, 1.0, duration_s)
    chosen = rng.choice(len(models), count, p=zipf(len(models), shape.zipf_exponent))
    questions = lengths.draw(rng, shape.question, count)
    answers = np.maximum(shape.min_answer_tokens, lengths.draw(rng, shape.answer, count))
    rows = zip(
        *(column.tolist() for column in (at_s, chosen, questions, answers)),
        strict=True,
    )
    return [
        TraceRequest(index, when_s, models[place].name, num_characters, max_tokens)
        for index, (when_s, place, num_characters, max_tokens) in enumerate(rows)
    ]
