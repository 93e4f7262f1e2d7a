"""The rows of requests: a batch of beginnings and ends in one transaction, with its usage.

Postgres' own clock dates everything: the gateway sends ages in seconds, counted back from `now()`.
Every statement bears repetition, because a commit whose answer was lost is written again.
"""

import json
from dataclasses import asdict, dataclass

from sqlalchemy import text

from libs.common.records.database import Database, row_refusals
from libs.common.states import SloMiss


@dataclass(frozen=True)
class BegunRow:
    """A request that a warm endpoint accepted; the scheduler never saw it."""

    id: str
    tenant: str
    model_id: str
    gateway_id: str
    api_key_id: str
    attempt: int
    endpoint_id: str | None
    num_prompt_tokens: int
    max_tokens: int
    arrived_age_s: float
    assigned_age_s: float | None
    remaining_s: float  # of its deadline


@dataclass(frozen=True)
class EndedRow(BegunRow):
    num_generated_tokens: int
    first_token_age_s: float | None
    ended_age_s: float
    outcome: str
    error: str | None
    is_slo_met: bool | None
    # None: not known, or no such time.
    slo_ttft_ms: int | None = None
    slo_tpot_ms: int | None = None
    ttft_ms: float | None = None
    tpot_ms: float | None = None
    slo_miss: str | None = None  # SloMiss


_MISSES = tuple(f"num_{miss.value}" for miss in SloMiss)
_COLUMNS = """id text, tenant text, model_id text, gateway_id text, api_key_id text, attempt bigint,
    endpoint_id text, num_prompt_tokens bigint, max_tokens bigint, arrived_age_s float8,
    assigned_age_s float8, remaining_s float8"""

_INSERT = """
INSERT INTO requests (id, tenant, model_id, gateway_id, api_key_id, attempt, endpoint_id,
    num_prompt_tokens, max_tokens, arrived_at, assigned_at, deadline_at, state{columns})
SELECT id, tenant, model_id, gateway_id, api_key_id, attempt, endpoint_id,
    num_prompt_tokens, max_tokens, now() - make_interval(secs => arrived_age_s),
    now() - make_interval(secs => assigned_age_s), now() + make_interval(secs => remaining_s),
    {values}
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({record})
"""

_BEGIN = text(
    _INSERT.format(columns="", values="'ASSIGNED'", record=_COLUMNS) + "ON CONFLICT (id) DO NOTHING"
)

# The scheduler may have ended the row first. What was generated is the gateway's to say all the
# same, and counts for usage once: RETURNING names the rows that were not accounted before. Why it
# ended is the scheduler's to say where that refused it; that a gateway is lost, or has cancelled,
# is hearsay.
_IS_REFUSED = """requests.outcome IN ('worker_crashed', 'model_failed', 'deadline')
        AND excluded.outcome NOT IN ('stop', 'length')"""
_COUNT_SLOS = f"""
INSERT INTO slo_hours (tenant, model_id, hour, num_met, {", ".join(_MISSES)})
SELECT tenant, model_id, date_trunc('hour', ended_at, 'UTC') AS hour,
    count(*) FILTER (WHERE is_slo_met),
    {", ".join(f"count(*) FILTER (WHERE slo_miss = '{miss.value}')" for miss in SloMiss)}
FROM ended WHERE is_slo_met IS NOT NULL
GROUP BY tenant, model_id, hour ORDER BY tenant, model_id, hour
ON CONFLICT (tenant, model_id, hour) DO UPDATE SET num_met = slo_hours.num_met + excluded.num_met,
    {", ".join(f"{name} = slo_hours.{name} + excluded.{name}" for name in _MISSES)}
"""
_END = text(
    "WITH ended AS ("
    + _INSERT.format(
        columns=""", num_generated_tokens, first_token_at, ended_at, outcome, error, is_slo_met,
    slo_ttft_ms, slo_tpot_ms, ttft_ms, tpot_ms, slo_miss, is_accounted""",
        values="""'ENDED', num_generated_tokens,
    now() - make_interval(secs => first_token_age_s), now() - make_interval(secs => ended_age_s),
    outcome, error, is_slo_met, slo_ttft_ms, slo_tpot_ms, ttft_ms, tpot_ms, slo_miss, true""",
        record=_COLUMNS
        + """, num_generated_tokens bigint, first_token_age_s float8, ended_age_s float8,
    outcome text, error text, is_slo_met boolean, slo_ttft_ms bigint, slo_tpot_ms bigint,
    ttft_ms float8, tpot_ms float8, slo_miss text""",
    )
    + f"""
ON CONFLICT (id) DO UPDATE SET
    state = 'ENDED', attempt = excluded.attempt,
    endpoint_id = coalesce(excluded.endpoint_id, requests.endpoint_id),
    api_key_id = excluded.api_key_id,
    num_generated_tokens = excluded.num_generated_tokens,
    assigned_at = coalesce(requests.assigned_at, excluded.assigned_at),
    first_token_at = excluded.first_token_at,
    ended_at = CASE WHEN {_IS_REFUSED} THEN requests.ended_at ELSE excluded.ended_at END,
    outcome = CASE WHEN {_IS_REFUSED} THEN requests.outcome ELSE excluded.outcome END,
    error = CASE WHEN {_IS_REFUSED} THEN requests.error ELSE excluded.error END,
    is_slo_met = excluded.is_slo_met, slo_ttft_ms = excluded.slo_ttft_ms,
    slo_tpot_ms = excluded.slo_tpot_ms, ttft_ms = excluded.ttft_ms, tpot_ms = excluded.tpot_ms,
    slo_miss = excluded.slo_miss, is_accounted = true
WHERE NOT requests.is_accounted
RETURNING tenant, model_id, num_prompt_tokens, num_generated_tokens, ended_at, is_slo_met, slo_miss
), hours AS ({_COUNT_SLOS})
INSERT INTO usage (tenant, model_id, day, num_requests, num_prompt_tokens, num_generated_tokens)
SELECT tenant, model_id, (now() AT TIME ZONE 'UTC')::date, count(*),
    sum(num_prompt_tokens), sum(num_generated_tokens)
FROM ended GROUP BY tenant, model_id ORDER BY tenant, model_id
ON CONFLICT (tenant, model_id, day) DO UPDATE SET
    num_requests = usage.num_requests + excluded.num_requests,
    num_prompt_tokens = usage.num_prompt_tokens + excluded.num_prompt_tokens,
    num_generated_tokens = usage.num_generated_tokens + excluded.num_generated_tokens
"""
)


@dataclass(frozen=True)
class RequestStore:
    database: Database

    async def write(self, begun: tuple[BegunRow, ...], ended: tuple[EndedRow, ...]) -> None:
        """All or nothing. Raises DatabaseUnavailable, or RowsRefused for some row among them."""
        with row_refusals():
            async with self.database.transaction() as session:
                if begun:
                    await session.execute(_BEGIN, {"rows": _encode(begun)})
                if ended:
                    await session.execute(_END, {"rows": _encode(ended)})


def _encode(rows: tuple[BegunRow, ...] | tuple[EndedRow, ...]) -> str:
    """In the order of ids, so that two gateways' batches never lock each other."""
    return json.dumps([asdict(row) for row in sorted(rows, key=lambda row: row.id)])
