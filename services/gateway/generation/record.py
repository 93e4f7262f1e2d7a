"""The rows of a request at its beginning and at its end. Pure."""

from dataclasses import asdict

from libs.common.states import RequestOutcome
from services.gateway.generation.dispatch import Dispatch
from services.gateway.slo.judgement import Moments, SloResult, SloTargets, judge
from services.gateway.store.requests import BegunRow, EndedRow
from services.gateway.text.validity import storable

_MAX_ERROR_CHARS = 500


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
    inbox, slo = dispatch.inbox, _judged(dispatch, outcome, now_s)
    return EndedRow(
        **asdict(begun_row(dispatch, now_s)),
        num_generated_tokens=inbox.log.num_given,
        first_token_age_s=_age_s(inbox.first_token_s, now_s),
        ended_age_s=0.0,
        outcome=outcome.value,
        error=None if error is None else storable(error)[:_MAX_ERROR_CHARS],
        is_slo_met=slo.is_met,
        slo_ttft_ms=dispatch.job.slo_ttft_ms,
        slo_tpot_ms=dispatch.job.slo_tpot_ms,
        ttft_ms=slo.ttft_ms,
        tpot_ms=slo.tpot_ms,
        slo_miss=None if slo.miss is None else slo.miss.value,
    )


def _judged(dispatch: Dispatch, outcome: RequestOutcome, now_s: float) -> SloResult:
    job, inbox = dispatch.job, dispatch.inbox
    moments = Moments(
        job.arrived_s,
        inbox.first_token_s,
        inbox.last_token_s,
        now_s,
        inbox.log.next_index,
        inbox.waits,
        inbox.engine_clock.times,
    )
    return judge(SloTargets(job.slo_ttft_ms, job.slo_tpot_ms), outcome, moments)


def _age_s(moment_s: float | None, now_s: float) -> float | None:
    return None if moment_s is None else now_s - moment_s
