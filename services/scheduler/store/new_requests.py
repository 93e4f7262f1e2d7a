"""Rows of `requests` that are to be: however many come together, one statement writes them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import SubmitRequest
from services.scheduler.policy.cluster import Model

_ADD_ALL = text(
    """
    INSERT INTO requests (id, tenant, model_id, gateway_id, attempt, state,
        num_prompt_tokens, max_tokens, deadline_at)
    SELECT id, tenant, model_id, gateway_id, attempt, 'QUEUED',
        num_prompt_tokens, max_tokens, now() + make_interval(secs => remaining_s)
    FROM unnest(
        CAST(:ids AS text[]), CAST(:tenants AS text[]), CAST(:model_ids AS text[]),
        CAST(:gateway_ids AS text[]), CAST(:attempts AS bigint[]),
        CAST(:nums_prompt_tokens AS bigint[]), CAST(:maxs_tokens AS bigint[]),
        CAST(:remainings_s AS float8[])
    ) AS new (id, tenant, model_id, gateway_id, attempt, num_prompt_tokens, max_tokens, remaining_s)
    ORDER BY id
    ON CONFLICT DO NOTHING RETURNING id
    """
)


@dataclass(frozen=True)
class NewRequest:
    """One that is to be queued."""

    id: str
    tenant: str  # of its model
    model_id: str
    gateway_id: str
    attempt: int
    num_prompt_tokens: int
    max_tokens: int
    remaining_s: float


def new_request(message: SubmitRequest, model: Model) -> NewRequest:
    return NewRequest(
        message.request_id,
        model.tenant,
        message.model_id,
        message.gateway_id,
        message.attempt,
        message.num_prompt_tokens,
        message.max_tokens,
        message.remaining_ms / 1000,
    )


async def add_all(session: AsyncSession, new: Sequence[NewRequest]) -> frozenset[str]:
    """Queues them; the ids of those whose rows have not come from their gateways meanwhile."""
    values = {
        "ids": [item.id for item in new],
        "tenants": [item.tenant for item in new],
        "model_ids": [item.model_id for item in new],
        "gateway_ids": [item.gateway_id for item in new],
        "attempts": [item.attempt for item in new],
        "nums_prompt_tokens": [item.num_prompt_tokens for item in new],
        "maxs_tokens": [item.max_tokens for item in new],
        "remainings_s": [item.remaining_s for item in new],
    }
    return frozenset(await session.scalars(_ADD_ALL, values))
