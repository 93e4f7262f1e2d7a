"""Where a model's stages go. Pure: a decision from values, to be reserved by somebody else.

As many stages as the model allows, on different nodes, because each fetches its part at the same
time; one when a single node can compute just as soon, as after an earlier start.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from libs.common.bus.messages import LayerRange
from services.scheduler.policy.cluster import Deployable, DeviceSize
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.planning.model_shape import MAX_STAGES, ModelShape
from services.scheduler.policy.planning.pipelines import pipeline
from services.scheduler.policy.planning.plans import NoRoom, Plan, RejectedPlan, plan_stage
from services.scheduler.policy.planning.projected_cluster import empty_cluster
from services.scheduler.policy.planning.survey import SAME_S, Survey


@dataclass(frozen=True)
class Choice:
    """The plan to be carried out, and what else was looked at. Not `is_surveyed`: the sum of the
    largest rooms was too small already."""

    plan: Plan | NoRoom
    considered: tuple[RejectedPlan, ...] = ()
    is_surveyed: bool = field(default=True, compare=False)  # it says what the answer took


def plan(cluster: Cluster, deployable: Deployable, max_stages: int = MAX_STAGES) -> Plan | NoRoom:
    """The stages of the next endpoint, or what is missing."""
    return choose(cluster, deployable, max_stages).plan


def choose(cluster: Cluster, deployable: Deployable, max_stages: int = MAX_STAGES) -> Choice:
    """As `plan`, with the plans that lost.

    Nodes on which the model failed lately are used only where the others have no room.
    """
    return choose_for(ModelShape(deployable, max_stages), cluster)


def choose_for(shape: ModelShape, cluster: Cluster) -> Choice:
    """As `choose`, for one who asks about the same model again."""
    largest = cluster.largest_rooms(shape.deployable.summary.dtype, shape.num_stages)
    no_room = NoRoom(shape.needed_bytes, max(largest, default=0))
    if sum(largest) < shape.needed_bytes:
        return Choice(no_room, is_surveyed=False)  # most questions of what could give way end here
    survey = Survey(cluster, shape)
    best = _best_plan(survey, is_trusting=False)
    if best is None and len(survey.trusted_places) < len(survey.all_places):
        best = _best_plan(survey, is_trusting=True)
    return Choice(no_room) if best is None else best


def fits_in(
    sizes: Sequence[DeviceSize], deployable: Deployable, max_stages: int = MAX_STAGES
) -> bool:
    """Whether these devices could hold the model if they were empty: the planner itself answers,
    so that nobody waits for a plan that will not come, or is refused one that would."""
    return isinstance(plan(empty_cluster(sizes), deployable, max_stages), Plan)


def _best_plan(survey: Survey, *, is_trusting: bool) -> Choice | None:
    """On suspect nodes, too, if it is trusting."""
    whole = _whole_model(survey, is_trusting)
    if survey.shape.num_stages == 1 or (whole is not None and whole.start_s <= SAME_S):
        return None if whole is None else Choice(whole)
    found = pipeline(survey, is_trusting)
    if whole is None or found is None:
        only = whole or found
        return None if only is None else Choice(only)
    if _is_as_soon(whole, found):
        return Choice(whole, (_lost(found, "one worker starts as soon"),))
    return Choice(found, (_lost(whole, "it would start later"),))


def _lost(other: Plan, why_not: str) -> RejectedPlan:
    node_ids = tuple(stage.node_id for stage in other.stages)
    return RejectedPlan(len(other.stages), node_ids, other.start_s, other.fetch_s, why_not)


def _is_as_soon(whole: Plan, pipeline: Plan) -> bool:
    """Launches are predicted less well than fetches: where only a launch makes both start at the
    same time, the one that has its bytes first is the better."""
    return whole.start_s <= pipeline.start_s + SAME_S and whole.fetch_s <= pipeline.fetch_s + SAME_S


def _whole_model(survey: Survey, is_trusting: bool) -> Plan | None:
    deployable = survey.shape.deployable
    places = survey.all_places if is_trusting else survey.trusted_places
    weight_bytes = deployable.summary.weight_bytes
    best = survey.soonest(survey.with_whole_room(places), 1, weight_bytes)
    if not best:
        return None
    (offer,) = best
    fetch_s = (weight_bytes - offer.cached_bytes) / offer.rate_bytes_per_s
    layers = LayerRange(first_layer=0, last_layer=deployable.summary.num_layers)
    has_standby = offer.node.num_standbys > 0
    return Plan((plan_stage(offer, deployable, 0, layers, fetch_s, has_standby),))
