"""Usage by requests whose gateway died before it could say what they generated.

Each request counts once: the mark `is_accounted` is set in the statement that counts it.
"""

from collections.abc import Collection

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import UnacknowledgedEnd

UNREPORTED_S = 3600.0  # gateways write within seconds, once Postgres is there
SILENCE_S = 15.0  # of a gateway, and since the end: then its agent's count is taken
_COUNT = """
INSERT INTO usage (tenant, model_id, day, num_requests, num_prompt_tokens, num_generated_tokens)
SELECT tenant, model_id, (now() AT TIME ZONE 'UTC')::date, count(*), sum(num_prompt_tokens),
    sum(num_generated_tokens)
FROM counted GROUP BY tenant, model_id ORDER BY tenant, model_id
ON CONFLICT (tenant, model_id, day) DO UPDATE SET
    num_requests = usage.num_requests + excluded.num_requests,
    num_prompt_tokens = usage.num_prompt_tokens + excluded.num_prompt_tokens,
    num_generated_tokens = usage.num_generated_tokens + excluded.num_generated_tokens
"""
# Of several attempts the newest counts what all of them generated.
_CLOSE_REPORTED = text(
    """
WITH reported AS (
    SELECT DISTINCT ON (id) id, num_tokens
    FROM unnest(CAST(:ids AS text[]), CAST(:attempts AS bigint[]), CAST(:nums_tokens AS bigint[]))
        AS r (id, attempt, num_tokens)
    ORDER BY id, attempt DESC
), silent AS (
    SELECT requests.id, least(reported.num_tokens, requests.max_tokens) AS num_tokens
    FROM requests JOIN reported ON reported.id = requests.id
    WHERE requests.state = 'ENDED' AND NOT requests.is_accounted
        AND requests.ended_at < now() - make_interval(secs => :silence_s)
        AND NOT EXISTS (
            SELECT FROM gateways WHERE gateways.id = requests.gateway_id
                AND gateways.heard_at > now() - make_interval(secs => :silence_s))
    ORDER BY requests.id FOR UPDATE OF requests SKIP LOCKED
), counted AS (
    UPDATE requests SET is_accounted = true, num_generated_tokens = silent.num_tokens
    FROM silent WHERE requests.id = silent.id
    RETURNING requests.tenant, requests.model_id, requests.num_prompt_tokens,
        requests.num_generated_tokens
)
"""
    + _COUNT
)
# What was never assigned has used nothing.
_CLOSE_UNREPORTED = text(
    """
WITH silent AS (
    SELECT id FROM requests
    WHERE state = 'ENDED' AND NOT is_accounted
        AND ended_at < now() - make_interval(secs => :silence_s)
    ORDER BY ended_at LIMIT 500 FOR UPDATE SKIP LOCKED
), closed AS (
    UPDATE requests SET is_accounted = true FROM silent WHERE requests.id = silent.id
    RETURNING requests.tenant, requests.model_id, requests.num_prompt_tokens,
        requests.assigned_at
), counted AS (
    SELECT tenant, model_id, num_prompt_tokens, 0 AS num_generated_tokens
    FROM closed WHERE assigned_at IS NOT NULL
)
"""
    + _COUNT
)


async def close_reported(
    session: AsyncSession, ends: Collection[UnacknowledgedEnd], silence_s: float = SILENCE_S
) -> None:
    """Count those of these requests that ended so long ago, and whose gateway is silent, with the
    tokens that their agents counted."""
    values = {
        "ids": [end.request_id for end in ends],
        "attempts": [end.attempt for end in ends],
        "nums_tokens": [end.num_generated_tokens for end in ends],
        "silence_s": silence_s,
    }
    await session.execute(_CLOSE_REPORTED, values)


async def close_unreported(session: AsyncSession, silence_s: float) -> None:
    """Count the requests that ended so long ago and that nobody has accounted for: their prompts,
    because nobody is left to tell how many tokens their clients got."""
    await session.execute(_CLOSE_UNREPORTED, {"silence_s": silence_s})
