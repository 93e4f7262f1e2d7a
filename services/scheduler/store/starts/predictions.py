"""What a cold start was predicted to come to, with the plans that lost, and what it came to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.policy.planning.plans import ConsideredPlan
from services.scheduler.policy.prediction.predictor import Prediction

# A request whose row is gone counts from the plan.
_SET_FIRST_TOKENS = text(
    """
    UPDATE cold_starts SET measured_ttft_ms = greatest(0, 1000 * extract(epoch FROM
        moment - coalesce(
            (SELECT arrived_at FROM requests WHERE requests.id = cold_starts.request_id),
            started_at)))
    FROM unnest(CAST(:ids AS text[]), CAST(:moments AS timestamptz[])) AS told (start_id, moment)
    WHERE id = start_id AND measured_ttft_ms IS NULL
    RETURNING model_id, predicted_ttft_ms, plans -> 0 AS taken,
        CAST(extract(epoch FROM moment - started_at) AS float8) AS from_plan_s
    """
)


def columns_of(
    prediction: Prediction | None, considered: Sequence[ConsideredPlan]
) -> dict[str, object]:
    """Of a cold start that begins. All starts have the same columns."""
    return {
        "plans": [plan_document(plan) for plan in considered],
        **_figures_of(prediction),
    }


def _figures_of(prediction: Prediction | None) -> dict[str, object]:
    if prediction is None:
        names = ("predicted_ttft_ms", "predicted_tpot_ms", "predicted_cost_byte_s")
        return dict.fromkeys(names)
    return {
        "predicted_ttft_ms": 1000 * prediction.ttft_s,
        "predicted_tpot_ms": 1000 * prediction.tpot_s,
        "predicted_cost_byte_s": prediction.cost_byte_s,
    }


def plan_document(plan: ConsideredPlan) -> dict[str, object]:
    """As `plans` holds it, and clients see it: milliseconds, and device bytes x seconds."""
    document: dict[str, object] = {
        "num_stages": plan.num_stages,
        "num_full": plan.num_full,
        "nodes": list(plan.node_ids),
        "verdict": plan.verdict,
        "is_estimate": plan.is_estimate,
    }
    prediction = plan.prediction
    if prediction is not None:
        document |= {
            "ttft_ms": round(1000 * prediction.ttft_s, 1),
            "waited_ms": round(1000 * prediction.waited_s, 1),
            "ready_ms": round(1000 * prediction.ready_s, 1),
            "prefill_ms": round(1000 * prediction.prefill_s, 1),
            "hops_ms": round(1000 * prediction.hops_s, 1),
            "tpot_ms": round(1000 * prediction.tpot_s, 2),
            "cost_byte_s": round(prediction.cost_byte_s),
            "slowdown": round(prediction.slowdown, 3),
            "correction": round(prediction.correction, 4),
        }
    return document


@dataclass(frozen=True)
class TtftOfStart:
    """Of a cold start's first token, from when it was planned; without what was waited before."""

    model_id: str
    predicted_s: float
    measured_s: float
    corrected_by: float  # ratio that the prediction had been multiplied by


async def record_first_tokens(
    session: AsyncSession, at: Mapping[str, datetime]
) -> list[TtftOfStart]:
    """By cold start, when its first token was there. Each counts once; those that were predicted
    are returned."""
    values = {"ids": list(at), "moments": list(at.values())}
    rows = (await session.execute(_SET_FIRST_TOKENS, values)).all()
    return [_ttft_of(row) for row in rows if row.predicted_ttft_ms is not None and row.taken]


def _ttft_of(row: Any) -> TtftOfStart:
    taken: Mapping[str, float] = row.taken
    return TtftOfStart(
        model_id=row.model_id,
        predicted_s=max(0.0, (row.predicted_ttft_ms - taken.get("waited_ms", 0.0)) / 1000),
        measured_s=max(0.0, row.from_plan_s),
        corrected_by=taken.get("correction", 1.0),
    )
