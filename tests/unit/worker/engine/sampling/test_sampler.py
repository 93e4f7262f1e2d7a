from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.sampling import SamplingParameters
from services.worker.engine.sampling import sampler
from services.worker.engine.sampling.draw import Draw
from services.worker.engine.sampling.philox import uniform
from services.worker.engine.sampling.sampler import Sampled, sample
from tests.support.equality import draw, is_draw_near_tie

VOCABULARY = 4_000  # more than the sampler's first candidates


def row(seed: int, *, spread: float = 2.0, size: int = VOCABULARY) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, generator=generator) * spread


def token(sampled: Sampled | None) -> int:
    assert sampled is not None
    return sampled.token_id


@pytest.mark.parametrize("temperature", [5e-324, 1e-46, 1e-38, 1e-6, 1e-5])
def test_a_temperature_of_nearly_zero_takes_the_largest(temperature: float) -> None:
    logits = torch.randn(1, 100, generator=torch.Generator().manual_seed(3))

    drawn = sample(logits, [Draw(SamplingParameters(1, 0, temperature=temperature), 0)])[0]

    assert token(drawn) == int(logits.argmax())


def test_blocks_of_rows_change_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(7, 1000, generator=torch.Generator().manual_seed(5))
    draws = [
        Draw(SamplingParameters(1, seed=n, temperature=2.0, top_p=0.9 + 0.01 * n, top_k=100 * n), n)
        for n in range(7)
    ]
    at_once = sample(logits, draws)

    monkeypatch.setattr(sampler, "_BLOCK_VALUES", 2500)

    assert sample(logits, draws) == at_once


def test_temperature_zero_takes_the_first_of_the_largest() -> None:
    logits = torch.tensor([[0.0, 3.0, 3.0, 1.0]])

    assert token(sample(logits, [Draw(SamplingParameters(1, 0, temperature=0), 0)])[0]) == 1


SETTINGS = (
    ({"temperature": 1.0}, "the whole distribution"),
    ({"temperature": 0.3}, "sharpened"),
    ({"temperature": 2.0, "top_p": 0.9}, "a nucleus of more than the first candidates"),
    ({"temperature": 0.8, "top_p": 0.5}, "a small nucleus"),
    ({"temperature": 1.0, "top_k": 5}, "top-k"),
    ({"temperature": 1.5, "top_k": 700}, "top-k beyond the first candidates"),
    ({"temperature": 1.0, "top_k": 10**6}, "top-k beyond the vocabulary"),
    ({"temperature": 1.2, "top_k": 40, "top_p": 0.8}, "top-p of what top-k leaves"),
    ({"temperature": 1.0, "min_p": 0.2}, "min-p"),
    ({"temperature": 1.0, "top_p": 1e-9}, "a nucleus of one token"),
    ({"temperature": 1e-30}, "nearly greedy"),
)


@pytest.mark.parametrize(
    "settings_", [each for each, _ in SETTINGS], ids=[reason for _, reason in SETTINGS]
)
def test_draws_agree_with_a_slow_float64_reference(settings_: dict[str, float]) -> None:
    num_ties = 0
    for index in range(60):
        logits = row(index)
        sampling = SamplingParameters(100, seed=index, **settings_)  # type: ignore[arg-type]  # table of keywords
        number = uniform(index, index)

        chosen = token(sample(logits.unsqueeze(0), [Draw(sampling, index)])[0])

        expected = draw(logits, number, **settings_)  # type: ignore[arg-type]  # table of keywords
        if chosen != expected:
            num_ties += 1
            assert is_draw_near_tie(logits, number, **settings_)  # type: ignore[arg-type]  # as above
    assert num_ties <= 3


def test_a_draw_does_not_depend_on_the_rows_beside_it() -> None:
    samplings = [
        SamplingParameters(
            9, seed=n, temperature=0.5 * (n % 4), top_p=1 - 0.1 * (n % 3), top_k=(n % 2) * 300
        )
        for n in range(12)
    ]
    draws = [Draw(sampling, n) for n, sampling in enumerate(samplings)]
    logits = torch.stack([row(n) for n in range(12)])

    together = [token(each) for each in sample(logits, draws)]
    alone = [token(sample(logits[n : n + 1], draws[n : n + 1])[0]) for n in range(12)]

    assert together == alone


def test_frequencies_follow_the_probabilities() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5])
    draws = [Draw(SamplingParameters(1, seed=3), index) for index in range(4_000)]

    counts = Counter(token(each) for each in sample(logits.expand(4_000, 5), draws))

    for token_id, probability in enumerate(logits.softmax(-1).tolist()):
        assert abs(counts[token_id] / 4_000 - probability) < 0.03


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**64 - 1), st.floats(0.05, 1.0), st.integers(1, 5))
def test_equal_logits_are_all_kept_or_all_dropped(seed: int, top_p: float, top_k: int) -> None:
    logits = torch.tensor([[2.0, 2.0, 2.0, 2.0, 0.0, 0.0]], dtype=torch.bfloat16)
    sampling = SamplingParameters(1, seed, top_p=top_p, top_k=top_k)

    chosen = {token(sample(logits, [Draw(sampling, index)])[0]) for index in range(64)}

    assert chosen >= {0, 1, 2, 3}


def test_a_row_that_is_not_finite_is_named_and_harms_no_other() -> None:
    logits = torch.stack([row(0), row(1), row(2)])
    logits[1, 17] = float("nan")

    for temperature in (0.0, 1.0):
        sampled = sample(logits, [Draw(SamplingParameters(1, 0, temperature=temperature), 0)] * 3)
        assert [each is None for each in sampled] == [False, True, False]


def test_logprobs_are_of_the_models_own_distribution() -> None:
    logits = row(5)
    sampling = SamplingParameters(1, 0, temperature=0.2, top_k=3, num_logprobs=4)
    plain = SamplingParameters(1, 0, temperature=0, num_logprobs=0)

    sampled = sample(torch.stack([logits, logits]), [Draw(sampling, 0), Draw(plain, 0)])

    expected = logits.log_softmax(-1)
    first, second = (each.logprob for each in sampled if each is not None)
    assert first is not None and second is not None
    assert first.logprob == pytest.approx(expected[token(sampled[0])].item(), abs=1e-5)
    assert [token_id for token_id, _ in first.top] == expected.topk(4).indices.tolist()
    assert second.top == ()
