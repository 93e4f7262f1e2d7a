"""Penalties, bias and least lengths against transformers' processors and the formulas."""

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from libs.common.sampling import SamplingParameters
from services.worker.engine.sampling.adjustment import adjusted
from services.worker.engine.sampling.draw import Draw
from services.worker.engine.sampling.philox import uniform
from services.worker.engine.sampling.sampler import sample
from tests.support.equality import DRAW_GAP

VOCABULARY = 500
EOS = 3
PROMPT = tuple(range(40, 60))
OUTPUT = (7, 8, 7, 7, 45)


def logits_of(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(VOCABULARY, generator=generator) * 2).to(dtype)


def draw_of(**settings: object) -> Draw:
    sampling = SamplingParameters(99, seed=0, temperature=0, **settings)  # type: ignore[arg-type]  # keywords
    return Draw(sampling, len(OUTPUT), PROMPT + OUTPUT, frozenset({EOS}))


def scores_of(logits: torch.Tensor, **settings: object) -> torch.Tensor:
    return adjusted(logits.unsqueeze(0), [draw_of(**settings)])[0]


@pytest.mark.parametrize("penalty", [0.5, 1.1, 1.3, 2.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_repetition_penalty_is_that_of_transformers(penalty: float, dtype: torch.dtype) -> None:
    logits = logits_of(1, dtype)
    processor = RepetitionPenaltyLogitsProcessor(penalty)
    ids = torch.tensor([PROMPT + OUTPUT])

    expected = processor(ids, logits.float().unsqueeze(0).clone())[0]

    torch.testing.assert_close(scores_of(logits, repetition_penalty=penalty), expected)


def test_frequency_and_presence_count_the_output_alone() -> None:
    logits = logits_of(2)

    change = scores_of(logits, frequency_penalty=0.5, presence_penalty=0.25) - logits

    expected = torch.zeros(VOCABULARY)
    expected[7], expected[8], expected[45] = -(3 * 0.5 + 0.25), -0.75, -0.75
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=0)


def test_a_bias_is_added_as_transformers_adds_it() -> None:
    logits, biases = logits_of(3), ((5, -100.0), (6, 2.5), (499, 100.0))
    processor = SequenceBiasLogitsProcessor([[[token_id], bias] for token_id, bias in biases])

    expected = processor(torch.tensor([PROMPT]), logits.unsqueeze(0).clone())[0]

    torch.testing.assert_close(scores_of(logits, logit_bias=biases), expected)


def test_all_of_them_together_follow_the_stated_order() -> None:
    logits = logits_of(4)
    token_id = 7  # three times in the output

    scores = scores_of(
        logits,
        logit_bias=((token_id, 10.0),),
        repetition_penalty=2.0,
        frequency_penalty=0.5,
        presence_penalty=1.0,
    )

    assert scores[token_id].item() == pytest.approx((logits[token_id].item() + 10) / 2 - 2.5)


@pytest.mark.parametrize("min_tokens", range(4, 8))
def test_until_the_least_number_of_tokens_no_end_is_chosen_as_in_transformers(
    min_tokens: int,
) -> None:
    logits = logits_of(5)
    logits[EOS], logits[9] = 30.0, 20.0
    processor = MinNewTokensLengthLogitsProcessor(len(PROMPT), min_tokens, [EOS, 9])
    ids = torch.tensor([PROMPT + OUTPUT])

    draw = draw_of(min_tokens=min_tokens, stop_token_ids=(9,))
    (sampled,) = sample(logits.unsqueeze(0), [draw])

    expected = processor(ids, logits.unsqueeze(0).clone())[0]
    assert sampled is not None and sampled.token_id == expected.argmax()


def test_an_end_token_that_is_ignored_may_come_at_any_time() -> None:
    logits = logits_of(6)
    logits[EOS] = 30.0

    (sampled,) = sample(logits.unsqueeze(0), [draw_of(min_tokens=50, ignore_eos=True)])

    assert sampled is not None and sampled.token_id == EOS


def test_something_is_chosen_even_if_every_token_is_an_end() -> None:
    stops = tuple(range(VOCABULARY + 5))
    for temperature in (0.0, 1.0):
        sampling = SamplingParameters(
            9, seed=1, temperature=temperature, min_tokens=9, stop_token_ids=stops
        )

        (sampled,) = sample(logits_of(7).unsqueeze(0), [Draw(sampling, 0)])

        assert sampled is not None and 0 <= sampled.token_id < VOCABULARY


@pytest.mark.parametrize("penalty", [5e-324, 1e308])
def test_no_penalty_makes_a_row_unusable(penalty: float) -> None:
    sampling = SamplingParameters(9, seed=1, repetition_penalty=penalty)
    for seed in range(8):
        (sampled,) = sample(logits_of(seed).unsqueeze(0), [Draw(sampling, 0, PROMPT)])

        assert sampled is not None and 0 <= sampled.token_id < VOCABULARY


def test_what_an_earlier_attempt_generated_counts_as_output() -> None:
    """After a crash it comes with the request, and the next index says how much of it there is."""
    sampling = SamplingParameters(99, seed=0, frequency_penalty=1.0)
    before = Draw(sampling, 5, [*PROMPT, *OUTPUT])
    after = Draw(sampling, 5, PROMPT + OUTPUT)

    assert tuple(before.output_ids) == tuple(after.output_ids) == OUTPUT
    assert Draw(sampling, 0, PROMPT).output_ids == ()


def test_rows_without_a_wish_stay_as_they_are() -> None:
    logits = torch.stack([logits_of(8), logits_of(9)]).bfloat16()
    plain = Draw(SamplingParameters(9, seed=0, temperature=0), 0, PROMPT)
    before = logits.clone()

    scores = adjusted(logits, [plain, draw_of(repetition_penalty=1.5)])

    assert torch.equal(scores[0], logits[0].float())
    assert not torch.equal(scores[1], logits[1].float())
    assert torch.equal(logits, before)


def test_logprobs_stay_those_of_the_model() -> None:
    logits = logits_of(10)

    (sampled,) = sample(logits.unsqueeze(0), [draw_of(logit_bias=((5, 100.0),), num_logprobs=0)])

    assert sampled is not None and sampled.token_id == 5 and sampled.logprob is not None
    assert sampled.logprob.logprob == pytest.approx(logits.log_softmax(-1)[5].item(), abs=1e-5)


TRUNCATIONS = (
    {"temperature": 1.3},
    {"temperature": 1.0, "top_k": 7},
    {"temperature": 0.8, "top_p": 0.8},
    {"temperature": 1.5, "min_p": 0.1},
    {"temperature": 1.5, "top_k": 60, "top_p": 0.9, "min_p": 0.03},
    {"temperature": 0.9, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.3},
)


@pytest.mark.parametrize("settings", TRUNCATIONS, ids=str)
def test_draws_are_those_of_transformers_processors_in_their_order(
    settings: dict[str, float],
) -> None:
    num_ties = 0
    for index in range(60):
        logits = logits_of(index)
        sampling = SamplingParameters(99, seed=index, **settings)  # type: ignore[arg-type]  # table of keywords
        ids = PROMPT + tuple(range(index))

        (sampled,) = sample(logits.unsqueeze(0), [Draw(sampling, index, ids)])

        scores = processors(settings)(torch.tensor([ids]), logits.unsqueeze(0).clone())[0]  # type: ignore[arg-type]  # its own alias
        boundaries = scores.double().softmax(-1).cumsum(-1)
        number = uniform(index, index)
        assert sampled is not None
        if sampled.token_id != int((boundaries <= number).sum()):
            assert (boundaries - number).abs().min() <= DRAW_GAP
            num_ties += 1
    assert num_ties <= 3


def processors(settings: dict[str, float]) -> LogitsProcessorList:
    """As transformers' generate puts them together."""
    made = LogitsProcessorList()
    if penalty := settings.get("repetition_penalty"):
        made.append(RepetitionPenaltyLogitsProcessor(penalty))
    made.append(TemperatureLogitsWarper(settings["temperature"]))
    if top_k := settings.get("top_k"):
        made.append(TopKLogitsWarper(int(top_k)))
    if top_p := settings.get("top_p"):
        made.append(TopPLogitsWarper(top_p))
    if min_p := settings.get("min_p"):
        made.append(MinPLogitsWarper(min_p))
    return made
