"""Ends waiting requests of models that keep failing to start: their clients learn why, at once."""

from collections.abc import Mapping

from libs.common.states import RequestOutcome
from services.scheduler.policy.cluster import Demand, Endpoint, Model
from services.scheduler.rounds.refusal import refuse
from services.scheduler.rounds.round import Round
from services.scheduler.store import endpoints, requests


async def end_of_failing_models(
    round_: Round,
    fleet: tuple[Endpoint, ...],
    known_models: Mapping[str, Model],
    demands: Mapping[str, Demand],
) -> None:
    """While a model backs off and nothing of it lives, new requests are refused; so are those that
    waited, and those that its failed start was given."""
    alive = {endpoint.model_id for endpoint in fleet if endpoint.state.can_take_requests}
    for model_id in demands:
        model = known_models.get(model_id)
        if model is None or model_id in alive or (model.backoff_remaining_s or 0.0) <= 0:
            continue
        cause = await endpoints.last_failure(round_.session, model_id)
        message = (
            f"model {model.name} failed to start {model.num_failed_starts} times; "
            f"the last failure: {cause}"
        )
        ended = await requests.load_stranded(round_.session, model_id)
        await refuse(round_, ended, RequestOutcome.MODEL_FAILED, "model_failed", message)
