"""The rows of a request at its beginning and at its end. Pure."""

from dataclasses import asdict

from libs.common.states import RequestOutcome
from services.gateway.generation.dispatch import Dispatch
from services.gateway.generation.job import Job
from services.gateway.store.requests import BegunRow, EndedRow
from services.gateway.text.validity import storable

_MAX_ERROR_CHARS = 500
_SUCCESSES = (RequestOutcome.STOP, RequestOutcome.LENGTH)


def begun_row(dispatch: Dispatch, now_s: float) -> BegunRow:
    job = dispatch.job
    return BegunRow(
        id=job.request_id,
        tenant=job.caller.tenant,
        model_id=job.model_id,
        gateway_id=job.gateway_id,
        api_key_id=job.caller.key_id,
        attempt=dispatch.attempt,
        endpoint_id=dispatch.endpoint.endpoint_id if dispatch.endpoint else None,
        num_prompt_tokens=len(job.prompt_ids),
        max_tokens=job.sampling.max_tokens,
        arrived_age_s=now_s - job.arrived_s,
        assigned_age_s=_age_s(dispatch.assigned_s, now_s),
        remaining_s=job.deadline_s - now_s,
    )


def ended_row(
    dispatch: Dispatch, outcome: RequestOutcome, error: str | None, now_s: float
) -> EndedRow:
    """`num_generated_tokens` counts what the client was given, which is what it pays for."""
    inbox = dispatch.inbox
    return EndedRow(
        **asdict(begun_row(dispatch, now_s)),
        num_generated_tokens=inbox.log.num_given,
        first_token_age_s=_age_s(inbox.first_token_s, now_s),
        ended_age_s=0.0,
        outcome=outcome.value,
        error=None if error is None else storable(error)[:_MAX_ERROR_CHARS],
        is_slo_met=is_slo_met(
            dispatch.job,
            outcome,
            inbox.first_token_s,
            inbox.last_token_s,
            inbox.log.next_index,
        ),
    )


def is_slo_met(
    job: Job,
    outcome: RequestOutcome,
    first_token_s: float | None,
    last_token_s: float | None,
    num_tokens: int,
) -> bool | None:
    """TTFT from arrival; TPOT averaged over the tokens after the first.

    None when the client left before the first token: nobody can tell. False for every failure.
    """
    if outcome is RequestOutcome.CANCELLED and first_token_s is None:
        return None
    if outcome not in (*_SUCCESSES, RequestOutcome.CANCELLED):
        return False
    if first_token_s is None or last_token_s is None:
        return True  # it ended rightly without a token
    ttft_s = first_token_s - job.arrived_s
    tpot_s = (last_token_s - first_token_s) / max(1, num_tokens - 1)
    return 1000 * ttft_s <= job.slo_ttft_ms and 1000 * tpot_s <= job.slo_tpot_ms


def _age_s(moment_s: float | None, now_s: float) -> float | None:
    return None if moment_s is None else now_s - moment_s
