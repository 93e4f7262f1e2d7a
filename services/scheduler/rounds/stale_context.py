"""Endpoints that started with a shorter context than their models have by now.

Gateways promise what the model's row says at the moment, so such an endpoint would refuse some of
the requests, or cut their answers. It makes way for one with the longer context.
"""

from collections.abc import Mapping

from libs.common.states import ModelState
from services.scheduler.policy.cluster import Endpoint, Model
from services.scheduler.policy.planning.memory import context_tokens
from services.scheduler.rounds.round import Round
from services.scheduler.rounds.summaries import Summaries


async def find_outgrown(
    round_: Round,
    fleet: tuple[Endpoint, ...],
    known_models: Mapping[str, Model],
    summaries: Summaries,
) -> None:
    """Notes them in the round."""
    for endpoint in fleet:
        model = known_models[endpoint.model_id]
        if endpoint.context_tokens is None or model.state is not ModelState.READY:
            continue
        deployable = await summaries.deployable(round_.session, model)
        if endpoint.context_tokens < context_tokens(model, deployable.summary):
            round_.outgrown.add(endpoint.id)
