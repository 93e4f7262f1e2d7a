"""How far the endpoint of a model is on its way from a pipeline to one worker."""

from tests.acceptance.client import Client, Json
from tests.acceptance.observing import live_endpoints
from tests.acceptance.pipeline.driving.disturbed_streams import Model

_STATE = """
SELECT state FROM consolidations WHERE model_id = :model_id ORDER BY started_at DESC LIMIT 1
"""


async def endpoint_of(client: Client, model: str) -> Json:
    """The only one."""
    (endpoint,) = await live_endpoints(client, model)
    return endpoint


async def consolidated(client: Client, model: str) -> Json | None:
    """The endpoint once it is one worker."""
    endpoint = await endpoint_of(client, model)
    return endpoint if endpoint["state"] == "STANDALONE" else None


async def consolidating(client: Client, model: str) -> Json | None:
    """The endpoint while it is on its way."""
    endpoint = await endpoint_of(client, model)
    return endpoint if endpoint["state"] == "CONSOLIDATING" else None


async def state_of_latest(model: Model) -> object:
    """Of the model's latest consolidation, as the scheduler has it on record; None before one."""
    return await model.models.record.value(_STATE, model_id=model.id)
