"""Usage by requests whose gateway died before it could say what they generated."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

UNREPORTED_S = 3600.0  # gateways write within seconds, once Postgres is there
# Each once: the mark is set in the same statement. What was never assigned has used nothing.
_CLOSE = text(
    """
WITH silent AS (
    SELECT id FROM requests
    WHERE state = 'ENDED' AND NOT is_accounted
        AND ended_at < now() - make_interval(secs => :silence_s)
    ORDER BY ended_at LIMIT 500 FOR UPDATE SKIP LOCKED
), closed AS (
    UPDATE requests SET is_accounted = true FROM silent WHERE requests.id = silent.id
    RETURNING requests.tenant, requests.model_id, requests.num_prompt_tokens, requests.assigned_at
)
INSERT INTO usage (tenant, model_id, day, num_requests, num_prompt_tokens)
SELECT tenant, model_id, (now() AT TIME ZONE 'UTC')::date, count(*), sum(num_prompt_tokens)
FROM closed WHERE assigned_at IS NOT NULL
GROUP BY tenant, model_id ORDER BY tenant, model_id
ON CONFLICT (tenant, model_id, day) DO UPDATE SET
    num_requests = usage.num_requests + excluded.num_requests,
    num_prompt_tokens = usage.num_prompt_tokens + excluded.num_prompt_tokens
"""
)


async def close_unreported(session: AsyncSession, silence_s: float) -> None:
    """Count the requests that ended so long ago and that no gateway has accounted for: their
    prompts, because nobody is left to tell how many tokens their clients got."""
    await session.execute(_CLOSE, {"silence_s": silence_s})
