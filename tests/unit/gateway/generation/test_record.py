"""Whether a request met its SLO, as its row says."""

import pytest

from libs.common.sampling import SamplingParameters
from libs.common.states import RequestOutcome
from services.gateway.auth import Caller
from services.gateway.generation.job import Job
from services.gateway.generation.record import is_slo_met

JOB = Job(
    request_id="req-1",
    gateway_id="g",
    caller=Caller("t", "k"),
    model_id="m",
    slo_ttft_ms=1000,
    slo_tpot_ms=100,
    prompt_ids=(1,),
    sampling=SamplingParameters(max_tokens=5, seed=0),
    arrived_s=10.0,
    deadline_s=100.0,
)


@pytest.mark.parametrize(
    ("outcome", "first_s", "last_s", "num_tokens", "met", "why"),
    [
        ("stop", 11.0, 11.375, 5, True, "just on time"),
        ("stop", 11.1, 11.2, 5, False, "the first token was late"),
        ("length", 10.5, 11.5, 5, False, "the others were slow"),
        ("stop", 10.5, 10.5, 1, True, "one token has no time per token"),
        ("stop", None, None, 0, True, "an empty answer"),
        ("cancelled", None, None, 0, None, "nobody knows how it would have gone"),
        ("cancelled", 10.5, 10.6, 2, True, "it was good as long as it went"),
        ("deadline", 10.5, 10.6, 2, False, "it did not end"),
        ("worker_crashed", None, None, 0, False, "it failed"),
    ],
)
def test_slos_are_met_or_not(
    outcome: str,
    first_s: float | None,
    last_s: float | None,
    num_tokens: int,
    met: bool | None,
    why: str,
) -> None:
    assert is_slo_met(JOB, RequestOutcome(outcome), first_s, last_s, num_tokens) is met, why
