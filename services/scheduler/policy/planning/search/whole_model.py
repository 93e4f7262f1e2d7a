"""A plan of one worker. Pure."""

from libs.common.bus.messages import LayerRange
from libs.common.states import MemberMemory
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.offers import Offer
from services.scheduler.policy.planning.plans import Plan, plan_stage


def whole_model(offer: Offer, shape: ModelShape) -> Plan:
    """On a device that has room for all of it."""
    deployable = shape.deployable
    stage = plan_stage(
        offer,
        deployable,
        0,
        LayerRange(first_layer=0, last_layer=deployable.summary.num_layers),
        offer.rate_bytes_per_s,
        offer.node.num_standbys > 0,
        MemberMemory.FULL,
    )
    return Plan((stage,))
