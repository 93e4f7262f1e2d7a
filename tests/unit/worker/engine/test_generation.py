"""Whole requests through the engine: against transformers, against themselves in company."""

import random
from collections.abc import Callable

import pytest
import torch

from libs.common.sampling import SamplingParameters
from services.worker.engine.sampling.philox import uniform
from services.worker.engine_port import Request
from tests.support.equality import TokenEquality, is_draw_near_tie, is_greedy_near_tie
from tests.support.failures import require_same_tokens
from tests.unit.worker.engine.tiny import SHAPES, Generated, Shape, Tiny, generate

MakeTiny = Callable[[Shape], Tiny]
DRAWN = {"temperature": 0.7, "top_p": 0.9, "top_k": 50}


def greedy(name: str, prompt: tuple[int, ...], num_tokens: int = 24) -> Request:
    sampling = SamplingParameters(num_tokens, seed=0, temperature=0, ignore_eos=True)
    return Request(name, 1, prompt, sampling)


def seeded(name: str, prompt: tuple[int, ...], seed: int, num_tokens: int = 24) -> Request:
    sampling = SamplingParameters(num_tokens, seed, ignore_eos=True, **DRAWN)  # type: ignore[arg-type]  # a table
    return Request(name, 1, prompt, sampling)


def near_tie(tiny: Tiny, request: Request, expected: list[int]) -> Callable[[int], bool]:
    """Asks the reference model about the position of a first difference."""

    def is_near_tie(index: int) -> bool:
        tokens = request.prompt_ids + request.generated_ids + tuple(expected[:index])
        logits = tiny.reference_logits(tokens)[-1]
        if request.sampling.is_greedy:
            return is_greedy_near_tie(logits)
        number = uniform(request.sampling.seed, len(request.generated_ids) + index)
        return is_draw_near_tie(logits, number, **DRAWN)  # type: ignore[arg-type]  # a table

    return is_near_tie


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_greedy_tokens_equal_those_of_transformers(
    make_tiny: MakeTiny, shape: Shape, equality: TokenEquality
) -> None:
    tiny = make_tiny(shape)
    for length in (1, 2, 17, 64, 130):
        request = greedy(f"length {length}", tiny.prompt(length))
        expected = tiny.reference_tokens(request.prompt_ids, 24)

        tokens = generate(tiny.engine(max_step_tokens=48), request)[request.request_id].token_ids

        equality.compare(request.request_id, tokens, expected, near_tie(tiny, request, expected))
    equality.check()


def test_a_request_in_company_gives_the_tokens_it_gives_alone(
    tiny: Tiny, equality: TokenEquality
) -> None:
    """Random arrivals and lengths; half greedy, half seeded; chunked prefill; a small cache."""
    chance = random.Random(5)
    requests = []
    for number in range(24):
        prompt = tiny.prompt(chance.randint(1, 120), number)
        num_tokens, name = chance.randint(1, 60), f"r{number}"
        is_greedy = number % 2
        requests.append(
            greedy(name, prompt, num_tokens)
            if is_greedy
            else seeded(name, prompt, number, num_tokens)
        )
    alone: dict[str, Generated] = {}
    for request in requests:
        alone |= generate(tiny.engine(), request)

    together = generate(tiny.engine(max_step_tokens=40, kv_bytes=600 * 768), *requests)

    for request in requests:
        name = request.request_id
        expected = alone[name].token_ids
        tie = near_tie(tiny, request, expected)
        equality.compare(name, together[name].token_ids, expected, tie)
    equality.check()


@pytest.mark.parametrize(
    "make", [greedy, lambda name, prompt: seeded(name, prompt, 11)], ids=["greedy", "seeded"]
)
def test_a_later_attempt_continues_where_the_earlier_one_stopped(
    tiny: Tiny, make: Callable[[str, tuple[int, ...]], Request], equality: TokenEquality
) -> None:
    whole = make("whole", tiny.prompt(30))
    expected = generate(tiny.engine(), whole)["whole"].token_ids
    for cut in range(1, 24):
        done = tuple(expected[:cut])
        request = Request(f"cut {cut}", 2, whole.prompt_ids, whole.sampling, done)

        result = generate(tiny.engine(), request)[request.request_id]

        rest = expected[cut:]
        equality.compare(request.request_id, result.token_ids, rest, near_tie(tiny, request, rest))
        assert result.last.attempt == 2
    equality.check()


def test_the_seed_decides_and_nothing_else(tiny: Tiny) -> None:
    prompt = tiny.prompt(9)
    results = generate(
        tiny.engine(), *(seeded(f"{n}", prompt, seed) for n, seed in enumerate((1, 1, 2)))
    )

    require_same_tokens(results["1"].token_ids, results["0"].token_ids)
    assert results["0"].token_ids != results["2"].token_ids


def test_logprobs_agree_with_transformers(tiny: Tiny) -> None:
    sampling = SamplingParameters(8, seed=4, temperature=0.9, ignore_eos=True, num_logprobs=3)
    request = Request("r", 1, tiny.prompt(12), sampling)
    engine = tiny.engine()
    engine.add_request(request)
    outputs = [output for _ in range(8) for output in engine.step()]

    tokens = request.prompt_ids + tuple(output.token_ids[0] for output in outputs)
    expected = tiny.reference_logits(tokens).log_softmax(-1)[len(request.prompt_ids) - 1 :]
    for output, row in zip(outputs, expected, strict=False):
        assert output.logprobs is not None
        (logprob,) = output.logprobs
        assert logprob.logprob == pytest.approx(row[output.token_ids[0]].item(), abs=1e-4)
        values = [value for _, value in logprob.top]
        assert torch.allclose(torch.tensor(values), row.topk(3).values, atol=1e-4)
