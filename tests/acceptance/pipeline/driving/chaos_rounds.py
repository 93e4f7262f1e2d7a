"""One cold start with requests waiting for it, and faults in the middle of it."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.pipeline.driving.expected_answers import ExpectedAnswer, expected_answers
from tests.acceptance.pipeline.driving.fault_injector import (
    Fault,
    FaultInjector,
    InjectedFault,
    Victim,
)
from tests.acceptance.pipeline.driving.leftovers import nothing_left
from tests.acceptance.pipeline.driving.questions import (
    Question,
    QuestionResult,
    ask,
    require_right_tokens,
)
from tests.acceptance.pipeline.driving.record import Record
from tests.support.checkpoints import make_tiny_llama
from tests.support.failures import WrongTokens
from tests.support.figures import Figure
from tests.support.waiting import eventually

FRESH_SHARE = 0.5  # of rounds with weights that no node has seen
SECOND_FAULT_SHARE = 0.3
NUM_PROMPTS, MAX_TOKENS = 3, 240
SPREAD_S = 1.0  # of the requests of a round
REQUEST_TIMEOUT_S = 90.0
KEEP_ALIVE_S = 0.5

# Errors that a round may cause, each with how many faults it takes, of which kind.
_CRASHES = ("worker_crashed", tuple(Victim), 3)
_NO_LEADER = ("scheduler_unavailable", (Victim.LEADER, Victim.STANDBY), 1)
_NO_GATEWAY = ("gateway_lost", (Victim.GATEWAY,), 1)
DOCUMENTED = (_CRASHES, _NO_LEADER, _NO_GATEWAY)


@dataclass(frozen=True)
class Target:
    """A registered model that nothing runs of."""

    name: str
    answers: tuple[ExpectedAnswer, ...]


@dataclass(frozen=True)
class Sent:
    after_s: float
    gateway: int
    question: Question


@dataclass
class ChaosRounds:
    """Draws and plays rounds, and counts how requests ended."""

    stack: LocalStack
    clients: Sequence[Client]  # one per gateway
    record: Record
    sources: Path
    random: Random
    victims: Sequence[Victim]
    longest_freeze_s: float
    figure: Figure
    ends: Counter[str] = field(default_factory=Counter)
    _targets: list[Target] = field(default_factory=list)

    async def play(self, number: int) -> None:
        """Raises AssertionError, saying what was done to whom."""
        target = await self._target()
        questions = self._draw_questions(target)
        faults = self._draw_faults()
        injector = FaultInjector(self.stack, self.record)
        injecting = asyncio.gather(*(injector.inject(fault) for fault in faults))
        asked = await asyncio.gather(*(self._ask(sent) for sent in questions))
        injected = await injecting
        story = f"round {number}, {target.name}, {'; '.join(map(str, injected))}"
        self.figure(f"{story}: {_summary(asked)}")
        await self._check(story, questions, asked, injected)

    async def close(self) -> None:
        for target in self._targets:
            await self.clients[0].delete(target.name)

    # ------------------------------------------------------------ drawing one

    async def _target(self) -> Target:
        is_fresh = self.random.random() < FRESH_SHARE
        num_stages = self.random.choice((1, 2, 3, 4, 4, 4))
        if self._targets and not is_fresh:
            return self.random.choice(self._targets)
        number = len(self._targets)
        name = f"random-{number}-{num_stages}"
        folder = make_tiny_llama(
            self.sources / name, seed=2000 + number, num_layers=6, hidden_size=256, is_endless=True
        )
        settings = {
            "keep_alive_s": KEEP_ALIVE_S,
            "min_pipeline_size": num_stages,
            "max_pipeline_size": num_stages,
        }
        await self.clients[0].ready(name, str(folder), **settings)
        for client in self.clients:
            await _is_known(client, name)
        target = Target(name, expected_answers(folder, NUM_PROMPTS, MAX_TOKENS))
        self._targets.append(target)
        return target

    def _draw_questions(self, target: Target) -> list[Sent]:
        draw = self.random
        return [
            Sent(
                after_s=draw.uniform(0, SPREAD_S) if number else 0.0,
                gateway=draw.randrange(len(self.clients)),
                question=Question(
                    target.name,
                    draw.choice(target.answers),
                    draw.randint(1, MAX_TOKENS),
                    REQUEST_TIMEOUT_S,
                ),
            )
            for number in range(draw.randint(1, 4))
        ]

    def _draw_faults(self) -> list[Fault]:
        count = 2 if self.random.random() < SECOND_FAULT_SHARE else 1
        return [Fault.draw(self.random, self.victims, self.longest_freeze_s) for _ in range(count)]

    async def _ask(self, sent: Sent) -> QuestionResult:
        await asyncio.sleep(sent.after_s)
        return await ask(self.clients[sent.gateway], sent.question)

    # ----------------------------------------------------------- judging one

    async def _check(
        self,
        story: str,
        sent: Sequence[Sent],
        asked: Sequence[QuestionResult],
        injected: Sequence[InjectedFault],
    ) -> None:
        hit = {s.name for s in injected}
        try:
            require_right_tokens(asked)
        except WrongTokens as exc:
            raise WrongTokens(f"{story}: {exc}") from exc
        for one, answer in zip(sent, asked, strict=True):
            is_gateway_hit = f"gateway-{one.gateway}" in hit
            self.ends[_end(answer)] += 1
            assert answer.is_right or _is_excused(answer, injected, is_gateway_hit), (
                f"{story}: {answer}, text {answer.text!r}, not {answer.question.text!r}"
            )
            assert answer.ended_s is not None and answer.ended_s < REQUEST_TIMEOUT_S, story
        try:
            await self._check_rows(asked)
            for name in self.stack.processes:
                await self.stack.wait_ready(name)
            await nothing_left(self.stack, self.clients[0])
        except AssertionError as exc:
            raise AssertionError(f"{story}: {exc}") from exc

    async def _check_rows(self, asked: Sequence[QuestionResult]) -> None:
        for answer in asked:
            if answer.is_right:
                await eventually(
                    partial(self._is_on_record, answer),
                    timeout_s=30,
                    poll_s=0.1,
                    what=f"the record of {answer.request_id}",
                )

    async def _is_on_record(self, answer: QuestionResult) -> bool:
        """What the client was given is what was counted."""
        found = await self.record.value(
            "SELECT count(*) FROM requests WHERE id = :id AND state = 'ENDED' "
            "AND outcome = 'length' AND num_generated_tokens = :num_tokens",
            id=answer.request_id,
            num_tokens=answer.num_tokens,
        )
        return found == 1


def _is_excused(
    answer: QuestionResult, injected: Sequence[InjectedFault], is_gateway_hit: bool
) -> bool:
    """It failed as documented, for what was done, and told nothing wrong before."""
    if not answer.is_right_so_far:
        return False
    if answer.is_cut or answer.status is None:
        return is_gateway_hit
    return any(
        answer.error_code == code
        and sum(s.name is not None and s.fault.victim in victims for s in injected) >= num_faults
        for code, victims, num_faults in DOCUMENTED
    )


def _end(answer: QuestionResult) -> str:
    if answer.is_right:
        return "right"
    return "cut" if answer.is_cut else f"{answer.status} {answer.error_code}"


def _summary(asked: Sequence[QuestionResult]) -> str:
    return ", ".join(f"{_end(a)} ({a.num_tokens} tokens, {a.ended_s:.1f} s)" for a in asked)


async def _is_known(client: Client, model: str) -> None:
    async def found() -> bool:
        response = await client.http.get(f"/api/v1/models/{model}")
        return response.status_code == 200 and response.json()["state"] == "READY"

    await eventually(found, timeout_s=30, poll_s=0.05, what=f"{model} on {client.url}")
