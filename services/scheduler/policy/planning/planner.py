"""Where a model's stages go. Pure: a decision from values, to be reserved by somebody else.

As few stages as meet the model's targets at the lowest cost; on different nodes, because each
fetches its part at the same time. Where no plan meets them, the soonest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import Deployable, DeviceSize
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.planning.model_shape import MAX_STAGES, ModelShape
from services.scheduler.policy.planning.pipelines import any_pipeline
from services.scheduler.policy.planning.plans import ConsideredPlan, NoRoom, Plan
from services.scheduler.policy.planning.projected_cluster import empty_cluster
from services.scheduler.policy.planning.search.candidates import Candidates
from services.scheduler.policy.planning.search.forecasts import prediction_of
from services.scheduler.policy.planning.search.plan_search import Possible, best_of, options
from services.scheduler.policy.planning.search.verdicts import considered
from services.scheduler.policy.planning.survey import Survey
from services.scheduler.policy.prediction.predictor import Prediction


@dataclass(frozen=True)
class Choice:
    """The plan to be carried out, what it should come to, and all that was looked at. Not
    `is_surveyed`: the sum of the largest rooms was too small already."""

    plan: Plan | NoRoom
    prediction: Prediction | None = None
    considered: tuple[ConsideredPlan, ...] = ()
    # What the answer took:
    is_surveyed: bool = field(default=True, compare=False)
    num_cuts: int = field(default=0, compare=False)


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
    no_room = NoRoom(shape.needed_bytes, cluster.largest_room(shape.deployable.summary.dtype))
    if not _may_hold(cluster, shape):
        return Choice(no_room, is_surveyed=False)  # most questions of what could give way end here
    survey = Survey(cluster, shape)
    best = _best_choice(survey, is_trusting=False)
    if best is None and len(survey.trusted_mains) < len(survey.all_mains):
        best = _best_choice(survey, is_trusting=True)
    return Choice(no_room) if best is None else best


def fits(shape: ModelShape, cluster: Cluster) -> bool:
    """Whether `choose_for` finds a plan at all; where one is easily found, quicker than it."""
    if not _may_hold(cluster, shape):
        return False
    survey = Survey(cluster, shape)
    has_whole_room = len(survey.with_whole_room(survey.all_mains)) > 0
    if has_whole_room or any_pipeline(survey, is_trusting=True) is not None:
        return True
    return isinstance(choose_for(shape, cluster).plan, Plan)


def fits_in(
    sizes: Sequence[DeviceSize], deployable: Deployable, max_stages: int = MAX_STAGES
) -> bool:
    """Whether these devices could hold the model if they were empty: the planner itself answers,
    so that nobody waits for a plan that will not come, or is refused one that would."""
    return isinstance(plan(empty_cluster(sizes), deployable, max_stages), Plan)


def _may_hold(cluster: Cluster, shape: ModelShape) -> bool:
    """By what its emptiest devices have together."""
    dtype = shape.deployable.summary.dtype
    if cluster.largest_room(dtype) >= shape.needed_bytes:
        return True
    return sum(cluster.largest_rooms(dtype, shape.num_stages)) >= shape.needed_bytes


def _best_choice(survey: Survey, *, is_trusting: bool) -> Choice | None:
    """On suspect nodes, too, if it is trusting."""
    candidates = Candidates(survey, is_trusting)
    found = options(candidates)
    objective = survey.shape.deployable.objective
    long_enough = [o for o in found if o.shape.num_stages >= survey.shape.min_stages]
    best = best_of(long_enough, objective) or best_of(found, objective)
    if best is None:
        only = any_pipeline(survey, is_trusting)
        if only is None:
            return None
        best = Possible(only, prediction_of(only, survey.shape))
    told = considered(found, best, objective)
    return Choice(best.plan, best.prediction, told, num_cuts=candidates.num_cuts)
