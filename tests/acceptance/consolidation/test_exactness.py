"""Random requests to random models, through the whole stack, while pipelines become one worker:
tokens and log-probabilities are those of the same requests undisturbed."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pytest

from tests.acceptance.client import Answer, Client, Json
from tests.acceptance.consolidation.cases import (
    Case,
    CaseRequest,
    random_case,
    save_checkpoint,
    settings_of,
)
from tests.acceptance.consolidation.near_ties import is_near_tie, token_id
from tests.acceptance.observing import live_endpoints
from tests.acceptance.pipeline.driving.disturbed_streams import Models
from tests.support.equality import TokenEquality
from tests.support.figures import Figure
from tests.support.waiting import eventually

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(120)]

NUM_CASES = 208
SAMPLE = (0, 1, 3, 6, 11)
LOGPROB_DIFFERENCE = 1e-4
SWITCH_TIMEOUT_S = 60
_NUM_GROWN = """
SELECT count(*) FROM endpoints WHERE model_id = :model_id AND parent_id IS NOT NULL
"""
KEEPING = {"max_tokens": 1_500, "temperature": 0, "ignore_eos": True}


@dataclass(frozen=True)
class Token:
    token_id: int
    logprob: float


Tie = Callable[[Sequence[int], int], bool]


async def answer(client: Client, model: str, request: CaseRequest) -> list[Token]:
    response = await client.chat(model, request.prompt, **request.parameters)
    assert response.status_code == 200, response.text
    (choice,) = response.json()["choices"]
    assert choice["finish_reason"] == "length"
    return [_token(entry) for entry in choice["logprobs"]["content"]]


def _token(entry: Json) -> Token:
    return Token(token_id(bytes(entry["bytes"])), entry["logprob"])


async def said(
    client: Client, model: str, request: CaseRequest, first: Answer
) -> list[Token] | None:
    """None of one that is cancelled."""
    if request.after_s or request.is_cancelled:
        await eventually(lambda: first.num_chunks > 0, timeout_s=30, what="the first tokens")
        await asyncio.sleep(request.after_s)  # when it comes is part of the case
    if not request.is_cancelled:
        return await answer(client, model, request)
    asking = asyncio.create_task(answer(client, model, request))
    await asyncio.wait({asking}, timeout=0.3)  # so is when it goes
    asking.cancel()
    await asyncio.wait({asking})
    return None


async def switched(client: Client, model: str) -> list[Json]:
    """Its endpoints, once all are one worker."""

    async def are_alone() -> list[Json] | None:
        endpoints = await live_endpoints(client, model)
        is_alone = all(endpoint["state"] == "STANDALONE" for endpoint in endpoints)
        return endpoints if endpoints and is_alone else None

    found: list[Json] = await eventually(  # type: ignore[assignment]  # what `are_alone` returns
        are_alone, timeout_s=SWITCH_TIMEOUT_S, what="one worker"
    )
    return found


def check_same(
    name: str, actual: Sequence[Token], alone: Sequence[Token], equality: TokenEquality, tie: Tie
) -> None:
    ours, theirs = ([token.token_id for token in tokens] for tokens in (actual, alone))
    equality.compare(name, ours, theirs, lambda index: tie(theirs, index))
    if ours == theirs:
        pairs = zip(actual, alone, strict=True)
        worst = max(abs(one.logprob - other.logprob) for one, other in pairs)
        assert worst < LOGPROB_DIFFERENCE, f"{name}: {worst}"


async def run_case(models: Models, case: Case, equality: TokenEquality, figure: Figure) -> object:
    """How many workers of the pipeline have become endpoints of their own."""
    client, name = models.client, f"exact-{case.number}"
    folder = save_checkpoint(case, models.sources / name)
    model = await client.ready(name, str(folder), **settings_of(case, folder))
    keeping = Answer()
    first = asyncio.create_task(client.stream(name, "go", into=keeping, **KEEPING))
    asked = [asyncio.create_task(said(client, name, one, keeping)) for one in case.requests]

    endpoints = await switched(client, name)
    num_running = sum(not task.done() for task in (first, *asked))
    disturbed = await asyncio.gather(*asked)
    assert (await first).is_complete

    for index, (request, tokens) in enumerate(zip(case.requests, disturbed, strict=True)):
        if tokens is not None:
            alone = await answer(client, name, request)
            tie = partial(is_near_tie, folder, request)
            check_same(f"{case}, {index}", tokens, alone, equality, tie)
    num_grown = await models.record.value(_NUM_GROWN, model_id=model["id"])
    figure(
        f"{case}: {num_running} ran at the switch; {len(endpoints)} endpoints, {num_grown} grown"
    )
    await client.delete(name)
    return num_grown


@pytest.mark.parametrize("number", SAMPLE)
async def test_some_cases_are_exact(
    joining_models: Models, equality: TokenEquality, figure: Figure, number: int
) -> None:
    await run_case(joining_models, random_case(number), equality, figure)


@pytest.mark.long
@pytest.mark.parametrize("number", range(NUM_CASES))
async def test_all_cases_are_exact(
    joining_models: Models, equality: TokenEquality, figure: Figure, number: int
) -> None:
    case = random_case(number)
    num_grown = await run_case(joining_models, case, equality, figure)
    assert num_grown == int(case.is_scale_up)
