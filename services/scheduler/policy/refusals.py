"""Why requests of a model are refused, at admission as in the queue. Pure.

Both ask here, so that the same fault has the same reason and the same words wherever it is found.
"""

from dataclasses import dataclass
from math import ceil

from libs.common.reasons import Reason
from libs.common.states import ModelState
from services.scheduler.policy.cluster import Model


@dataclass(frozen=True)
class Refusal:
    """`message` names the cause and the next step. None: as the reason's row says."""

    reason: Reason
    message: str
    retry_after_s: int | None = None


def of_state(model: Model | None, *, is_living: bool) -> Refusal | None:
    """Of a model that is gone, or was not imported (yet). `is_living`: endpoints of a model that is
    imported again have its weights already, and go on.
    """
    if model is None or model.state is ModelState.DELETING:
        return Refusal(Reason.MODEL_NOT_FOUND, "the model was deleted")
    if model.state is ModelState.FAILED:
        message = f"the import of model {model.name} failed: {model.cause}"
        return Refusal(Reason.MODEL_FAILED, message)
    if model.state is ModelState.READY or (model.is_imported_again and is_living):
        return None
    why = f": {model.cause}" if model.cause else ""
    return Refusal(Reason.MODEL_NOT_READY, f"model {model.name} is still being imported{why}")


def of_backoff(model: Model, last_failure: str | None, now_s: float) -> Refusal | None:
    """While starts of the model have to wait."""
    remaining_s = 0.0 if model.backoff_until_s is None else model.backoff_until_s - now_s
    if remaining_s <= 0:
        return None
    return Refusal(
        Reason.MODEL_BACKING_OFF,
        f"model {model.name} failed to start {model.num_failed_starts} times, "
        f"the next try is in {ceil(remaining_s)} s; the last failure: {last_failure}",
        ceil(remaining_s),
    )


def of_shortage(missing: str) -> Refusal:
    """`missing`: what no cluster of these nodes has, as `feasibility.shortage` says it."""
    return Refusal(Reason.MODEL_TOO_LARGE, missing)
