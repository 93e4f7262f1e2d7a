"""Sampling parameters: the same limits wherever they are read."""

from dataclasses import asdict
from typing import Any

import pytest
from pydantic import ValidationError

from libs.common.bus.messages import Generate
from libs.common.sampling import MAX_BIASES, SamplingError, SamplingParameters
from tests.unit.worker.values import generate

BEYOND: tuple[tuple[str, Any], ...] = (
    ("max_tokens", 0),
    ("seed", -1),
    ("seed", 2**64),
    ("temperature", -0.1),
    ("temperature", float("inf")),
    ("top_p", 0.0),
    ("top_p", 1.1),
    ("top_k", -1),
    ("min_p", 1.5),
    ("stop_token_ids", (-1,)),
    ("num_logprobs", 21),
    ("min_tokens", 9),
    ("repetition_penalty", 0.0),
    ("presence_penalty", float("nan")),
    ("frequency_penalty", float("-inf")),
    ("logit_bias", ((-1, 1.0),)),
    ("logit_bias", ((5, float("nan")),)),
    ("logit_bias", ((5, 1.0), (5, 2.0))),
    ("logit_bias", tuple((token_id, 1.0) for token_id in range(MAX_BIASES + 1))),
)
IDS = [f"{name}={str(value)[:16]}" for name, value in BEYOND]


def sampling(**changed: Any) -> SamplingParameters:
    return SamplingParameters(**{"max_tokens": 8, "seed": 7, **changed})


@pytest.mark.parametrize(("field", "value"), BEYOND, ids=IDS)
def test_what_no_engine_can_use_is_refused_with_its_name(field: str, value: Any) -> None:
    with pytest.raises(SamplingError) as refused:
        sampling(**{field: value}).check()

    assert refused.value.field == field


@pytest.mark.parametrize(("field", "value"), BEYOND, ids=IDS)
def test_no_message_carries_what_no_engine_can_use(field: str, value: Any) -> None:
    with pytest.raises(ValidationError):
        generate(sampling=sampling(**{field: value}))


@pytest.mark.parametrize(
    "changed",
    [{"unknown": 1}, {"max_tokens": "many"}, {"stop_token_ids": "ab"}, {"logit_bias": [[1]]}],
    ids=str,
)
def test_a_message_with_malformed_parameters_is_refused(changed: dict[str, Any]) -> None:
    document = generate().model_dump(mode="json")
    document["sampling"] |= changed

    with pytest.raises(ValidationError):
        Generate.model_validate(document)


def test_a_message_says_no_more_than_the_parameters() -> None:
    document = generate(sampling=sampling()).model_dump(mode="python")

    assert document["sampling"] == asdict(sampling())


def test_a_bias_beyond_the_vocabulary_is_refused() -> None:
    sampling(logit_bias=((210, 1.0),)).check_vocabulary(211)
    with pytest.raises(SamplingError, match="logit_bias: 211 is not below 211"):
        sampling(logit_bias=((211, 1.0),)).check_vocabulary(211)
