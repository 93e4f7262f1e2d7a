"""Requests with penalties through the engine: alone, in company, on stages, after a crash."""

import dataclasses
import random
from collections.abc import Callable

import pytest

from libs.common.sampling import SamplingParameters
from libs.common.states import FinishReason
from services.worker.engine.sampling.adjustment import adjusted
from services.worker.engine.sampling.draw import Draw
from services.worker.engine.sampling.philox import uniform
from services.worker.engine_port import Request
from tests.support.equality import TokenEquality, is_draw_near_tie, is_greedy_near_tie
from tests.unit.worker.engine.pipelines import layers_of, make_pipeline
from tests.unit.worker.engine.tiny import Tiny, generate

NUM_TOKENS = 24
WISHES: dict[str, dict[str, object]] = {
    "repetition": {"repetition_penalty": 1.5},
    "frequency": {"frequency_penalty": 1.5},
    "presence": {"presence_penalty": 2.0},
    "bias": {"logit_bias": ((17, 6.0), (18, -100.0))},
    "least": {"min_tokens": 20, "stop_token_ids": tuple(range(2, 60)), "ignore_eos": False},
    "all": {
        "repetition_penalty": 1.2,
        "frequency_penalty": -0.3,
        "presence_penalty": 0.7,
        "logit_bias": ((17, 3.0),),
        "min_tokens": 4,
    },
}


def request(tiny: Tiny, wish: str, temperature: float) -> Request:
    number = list(WISHES).index(wish)
    settings = {"seed": number, "temperature": temperature, "ignore_eos": True} | WISHES[wish]
    sampling = SamplingParameters(NUM_TOKENS, **settings)  # type: ignore[arg-type]  # a table of keywords
    return Request(f"{wish} {temperature}", 1, tiny.prompt(9 + 13 * number), sampling)


def requests(tiny: Tiny) -> list[Request]:
    return [request(tiny, wish, temperature) for wish in WISHES for temperature in (0.0, 0.8)]


def near_tie(tiny: Tiny, asked: Request, expected: list[int]) -> Callable[[int], bool]:
    """By the reference model's logits and the adjustment, which has tests of its own."""

    def is_near_tie(index: int) -> bool:
        tokens = asked.prompt_ids + tuple(expected[:index])
        draw = Draw(asked.sampling, index, tokens, frozenset({1}))
        scores = adjusted(tiny.reference_logits(tokens)[-1:], [draw])[0]
        if asked.sampling.is_greedy:
            return is_greedy_near_tie(scores)
        number = uniform(asked.sampling.seed, index)
        return is_draw_near_tie(scores, number, temperature=asked.sampling.temperature)

    return is_near_tie


@pytest.fixture(scope="module")
def alone() -> Callable[[Tiny, Request], list[int]]:
    made: dict[str, list[int]] = {}

    def tokens(tiny: Tiny, asked: Request) -> list[int]:
        name = asked.request_id
        if name not in made:
            made[name] = generate(tiny.engine(), asked)[name].token_ids
        return made[name]

    return tokens


@pytest.mark.parametrize("num_stages", [1, 2, 3])
def test_company_and_stages_change_no_token(
    tiny: Tiny,
    alone: Callable[[Tiny, Request], list[int]],
    num_stages: int,
    equality: TokenEquality,
) -> None:
    asked = requests(tiny)
    layers = layers_of(tuple(range(1, num_stages)), tiny.config.num_layers)
    pipeline = make_pipeline(tiny, layers, random.Random(1), max_step_tokens=40)

    results = generate(pipeline.engine, *asked)

    for each in asked:
        expected = alone(tiny, each)
        tie = near_tie(tiny, each, expected)
        equality.compare(each.request_id, results[each.request_id].token_ids, expected, tie)
    equality.check()


@pytest.mark.parametrize("num_before", [1, 7, 20])
def test_a_request_that_starts_again_goes_on_as_if_nothing_had_happened(
    tiny: Tiny,
    alone: Callable[[Tiny, Request], list[int]],
    num_before: int,
    equality: TokenEquality,
) -> None:
    for each in requests(tiny):
        expected = alone(tiny, each)
        before = tuple(expected[:num_before])
        again = dataclasses.replace(each, attempt=2, generated_ids=before)

        tokens = [*before, *generate(tiny.engine(), again)[each.request_id].token_ids]

        tie = near_tie(tiny, each, expected)
        equality.compare(each.request_id, tokens, expected, tie)
    equality.check()


@pytest.mark.parametrize("wish", list(WISHES))
def test_every_wish_changes_the_output(
    tiny: Tiny, alone: Callable[[Tiny, Request], list[int]], wish: str
) -> None:
    wished = request(tiny, wish, 0.0)
    plain = SamplingParameters(NUM_TOKENS, seed=0, temperature=0, ignore_eos=wish != "least")
    if wish == "least":
        plain = dataclasses.replace(plain, stop_token_ids=wished.sampling.stop_token_ids)

    without = generate(tiny.engine(), dataclasses.replace(wished, sampling=plain))

    assert without[wished.request_id].token_ids != alone(tiny, wished)


def test_an_output_ends_at_the_first_end_after_its_least_number_of_tokens(tiny: Tiny) -> None:
    stops = tuple(range(2, 110))  # half of the vocabulary
    for least in (0, 5, 12):
        sampling = SamplingParameters(60, seed=4, min_tokens=least, stop_token_ids=stops)
        asked = Request("r", 1, tiny.prompt(8), sampling)

        result = generate(tiny.engine(), asked)["r"]

        assert result.last.finish is FinishReason.STOP
        assert len(result.token_ids) > least
        assert [token in (1, *stops) for token in result.token_ids].index(True) >= least


def test_a_heavy_penalty_lets_no_token_come_twice(tiny: Tiny) -> None:
    sampling = SamplingParameters(
        60, seed=0, temperature=0, ignore_eos=True, presence_penalty=1000.0
    )

    result = generate(tiny.engine(), Request("r", 1, tiny.prompt(8), sampling))["r"]

    assert len(set(result.token_ids)) == 60
