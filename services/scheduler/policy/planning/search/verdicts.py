"""Why a plan was taken and others were not, in words and figures. Pure."""

from collections.abc import Iterator, Sequence

from services.scheduler.policy.planning.plans import ConsideredPlan, Plan
from services.scheduler.policy.planning.search.plan_search import Option, Possible, meets
from services.scheduler.policy.planning.survey import SAME_S
from services.scheduler.policy.prediction.objective import Objective
from services.scheduler.policy.prediction.predictor import Prediction


def considered(
    found: Sequence[Option], taken: Possible, objective: Objective
) -> tuple[ConsideredPlan, ...]:
    """The plan that is taken first, then those that lost."""
    verdict = f"taken: {_why_taken(taken, objective)}"
    return (
        ConsideredPlan(
            len(taken.plan.stages),
            taken.plan.num_full,
            _node_ids(taken.plan),
            taken.prediction,
            is_estimate=False,
            verdict=verdict,
        ),
        *_lost(found, taken, objective),
    )


def _why_taken(taken: Possible, objective: Objective) -> str:
    if meets(taken.prediction, objective):
        return "the cheapest that meets both targets"
    is_in_time = taken.prediction.ttft_s <= objective.ttft_s
    which = "the nearest to them" if is_in_time else "the soonest"
    return f"no plan meets both targets, this is {which} ({_misses(taken, objective)})"


def _misses(taken: Possible, objective: Objective) -> str:
    return "; ".join(_missed(taken.prediction, objective))


def _lost(
    found: Sequence[Option], taken: Possible, objective: Objective
) -> Iterator[ConsideredPlan]:
    for option in found:
        if option.is_cut and option.best is taken:
            continue
        exact = option.best if option.is_cut else None
        prediction = option.estimate if exact is None else exact.prediction
        no_room = option.is_cut and exact is None
        yield ConsideredPlan(
            option.shape.num_stages,
            option.shape.num_full,
            tuple(o.node.id for o in option.chosen) if exact is None else _node_ids(exact.plan),
            None if no_room else prediction,
            is_estimate=exact is None,
            verdict="its layers do not fit these devices"
            if no_room
            else _too_short(option, taken) or _why_lost(prediction, taken.prediction, objective),
        )


def _too_short(option: Option, taken: Possible) -> str:
    """Empty: it is as long as its model asks for, or nothing is."""
    least = option.model.min_stages
    if option.shape.num_stages >= least or len(taken.plan.stages) < least:
        return ""
    return f"has fewer stages than min_pipeline_size, {least}"


def _why_lost(prediction: Prediction, taken: Prediction, objective: Objective) -> str:
    if taken.ttft_s <= objective.ttft_s:
        why = list(_missed(prediction, objective))
        is_as_near = prediction.ttft_s <= objective.ttft_s and prediction.tpot_s <= taken.tpot_s
        return "; ".join(why if why and not is_as_near else [*why, _costs(prediction, taken)])
    later_s = prediction.ttft_s - taken.ttft_s
    if later_s > SAME_S:
        return f"{later_s:.2f} s later"
    if prediction.cost_byte_s < taken.cost_byte_s:
        return "as soon by a launch, but its bytes arrive later"
    return f"as soon, but {_costs(prediction, taken)}"


def _missed(prediction: Prediction, objective: Objective) -> Iterator[str]:
    if prediction.ttft_s > objective.ttft_s:
        yield f"first token after {prediction.ttft_s:.2f} s, target {objective.ttft_s:.2f} s"
    if prediction.tpot_s > objective.tpot_s:
        tpot_ms, target_ms = 1000 * prediction.tpot_s, 1000 * objective.tpot_s
        yield f"{tpot_ms:.0f} ms per token, target {target_ms:.0f} ms"


def _costs(prediction: Prediction, taken: Prediction) -> str:
    return f"costs {prediction.cost_byte_s / taken.cost_byte_s:.2f} times as much"


def _node_ids(plan: Plan) -> tuple[str, ...]:
    return tuple(stage.node_id for stage in plan.stages)
