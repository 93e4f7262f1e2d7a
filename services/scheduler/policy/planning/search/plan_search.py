"""Finds the plan that suits an objective best among pipelines of every shape. Pure.

Each shape is first estimated, then the most promising ones are cut into layers, until no estimate
of the others is better than what has been found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf

from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.planning.model_shape import ModelShape
from services.scheduler.policy.planning.offers import Offer
from services.scheduler.policy.planning.pipelines import cut
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.search.candidates import Candidates
from services.scheduler.policy.planning.search.forecasts import (
    DeviceSet,
    PipelineShape,
    prediction_of,
)
from services.scheduler.policy.planning.search.refinement import other_plans
from services.scheduler.policy.planning.search.whole_model import whole_model
from services.scheduler.policy.planning.survey import SAME_S
from services.scheduler.policy.prediction.objective import Objective
from services.scheduler.policy.prediction.predictor import Prediction

NEAR = 1.02  # times the estimate: close enough


@dataclass(frozen=True)
class Possible:
    """A plan with what it comes to."""

    plan: Plan
    prediction: Prediction


@dataclass(eq=False)
class Option:
    """One shape on the devices that suit it, those of full-memory workers first."""

    shape: PipelineShape
    devices: DeviceSet
    candidates: Candidates

    @property
    def chosen(self) -> Sequence[Offer]:
        return self.devices.offers

    @property
    def model(self) -> ModelShape:
        return self.devices.shape

    @cached_property
    def estimate(self) -> Prediction:
        return self.devices.estimate(self.shape.num_full)

    @cached_property
    def bound(self) -> Prediction:
        """No plan of this shape is better, on any devices of a small cluster; in a large one on
        these, of which there are others that are as good."""
        if not self.candidates.is_small:
            return self.estimate
        bound_s = self.candidates.bound_s(self.shape.num_stages)
        bound_s *= self.model.deployable.objective.correction
        return replace(self.estimate, ready_s=min(self.estimate.ready_s, bound_s))

    @cached_property
    def exact(self) -> Possible | None:
        """None where the layers cannot be cut so that they fit."""
        if self.shape.num_stages == 1:
            plan: Plan | None = whole_model(self.chosen[0], self.model)
        else:
            self.candidates.num_cuts += 1
            plan = cut(self.chosen, self.model, self.shape.num_full)
        return None if plan is None else Possible(plan, prediction_of(plan, self.model))

    @cached_property
    def refined(self) -> Possible | None:
        """The soonest of some more plans, as far as it takes to come near the bound."""
        best = self.exact
        if self.shape.num_stages == 1 or self._is_near_bound(best):
            return best
        for plan in other_plans(self.candidates, self.chosen, self.shape.num_full, self.model):
            possible = Possible(plan, prediction_of(plan, self.model))
            if best is None or possible.prediction.ttft_s < best.prediction.ttft_s:
                best = possible
            if self._is_near_bound(best):
                break
        return best

    def _is_near_bound(self, possible: Possible | None) -> bool:
        if possible is None:
            return False
        return possible.prediction.ready_s <= NEAR * self.bound.ready_s + SAME_S

    @property
    def best(self) -> Possible | None:
        """The best that was looked at."""
        return self.refined if "refined" in self.__dict__ else self.exact

    @property
    def is_cut(self) -> bool:
        return "exact" in self.__dict__


def options(candidates: Candidates) -> list[Option]:
    """Of every shape for which there are devices.

    A pipeline has a worker with memory for the whole model, which it can be consolidated on,
    wherever there is room for one.
    """
    model = candidates.survey.shape
    sets: dict[tuple[tuple[str, int], ...], DeviceSet] = {}
    found = []
    for shape in _shapes(model, candidates.max_full):
        for chosen in candidates.choose(shape.num_stages, shape.num_full):
            key = tuple(offer.place for offer in chosen)
            devices = sets.setdefault(key, DeviceSet(chosen, model))
            found.append(Option(shape, devices, candidates))
    return found


def best_of(found: Sequence[Option], objective: Objective) -> Possible | None:
    """The cheapest that meets both targets; if none does, the one that misses the target for each
    token by the least of those that meet the one for the first; if none does, the soonest."""
    best = _cheapest(found, objective, is_refined=False)
    best = best or _cheapest(found, objective, is_refined=True)
    if best is None and objective.tpot_s < inf:
        best = _steadiest(found, objective, is_refined=False)
        best = best or _steadiest(found, objective, is_refined=True)
    return best or _soonest(found)


def meets(prediction: Prediction, objective: Objective) -> bool:
    return prediction.ttft_s <= objective.ttft_s and prediction.tpot_s <= objective.tpot_s


def _shapes(model: ModelShape, max_full: int) -> Iterable[PipelineShape]:
    for num_stages in range(1, model.num_stages + 1):
        for num_full in _full_counts(model, num_stages, max_full):
            if num_stages > 1 or num_full:
                yield PipelineShape(num_stages, num_full)


def _full_counts(model: ModelShape, num_stages: int, max_full: int) -> range:
    """Only a pipeline that will be consolidated has a use for more than one such worker, unless
    the model asks for them. Where there is room for fewer, fewer have to do."""
    asked = model.deployable.model.full_memory_workers
    if asked is not None:
        num_full = min(asked, num_stages, max_full)
        return range(num_full, num_full + 1)
    objective = model.deployable.objective
    wanted = objective.num_endpoints if objective.can_consolidate else 1
    least_full = min(max(1, wanted), max_full, model.num_stages)
    most_full = max_full if objective.can_consolidate else least_full
    return range(least_full, min(num_stages, most_full) + 1)


def _cheapest(
    found: Sequence[Option], objective: Objective, *, is_refined: bool
) -> Possible | None:
    best: Possible | None = None
    promising = [o for o in found if meets(o.bound if is_refined else o.estimate, objective)]
    for option in sorted(promising, key=_by_cost):
        limit = inf if best is None else best.prediction.cost_byte_s
        if option.estimate.cost_byte_s >= limit:
            break
        exact = option.refined if is_refined else option.exact
        if exact is None or not meets(exact.prediction, objective):
            continue
        if exact.prediction.cost_byte_s < limit:
            best = exact
    return best


def _steadiest(
    found: Sequence[Option], objective: Objective, *, is_refined: bool
) -> Possible | None:
    """Of those whose first token is in time the one with the least time per token."""
    best: Possible | None = None
    in_time = replace(objective, tpot_s=inf)
    promising = [o for o in found if meets(o.bound if is_refined else o.estimate, in_time)]
    for option in sorted(promising, key=_by_tpot):
        if best is not None and _by_tpot(option) >= _tpot_and_cost(best.prediction):
            break
        exact = option.refined if is_refined else option.exact
        if exact is None or not meets(exact.prediction, in_time):
            continue
        if best is None or _tpot_and_cost(exact.prediction) < _tpot_and_cost(best.prediction):
            best = exact
    return best


def _soonest(found: Sequence[Option]) -> Possible | None:
    """Of those that are as soon, the ones that have their bytes first, because launches are
    predicted less well than fetches; of these the cheapest."""
    soon: list[Possible] = []
    least_s = inf
    for option in sorted(found, key=lambda option: option.bound.ttft_s):
        if option.bound.ttft_s > least_s + SAME_S:
            break
        if option.refined is not None:
            soon.append(option.refined)
            least_s = min(least_s, option.refined.prediction.ttft_s)
    as_soon = [one for one in soon if one.prediction.ttft_s <= least_s + SAME_S]
    least_fetch_s = min((one.plan.fetch_s for one in as_soon), default=0.0)
    first = [one for one in as_soon if one.plan.fetch_s <= least_fetch_s + SAME_S]
    return min(first, key=lambda one: one.prediction.cost_byte_s, default=None)


def _by_tpot(option: Option) -> tuple[float, float]:
    return _tpot_and_cost(option.estimate)


def _tpot_and_cost(prediction: Prediction) -> tuple[float, float]:
    return (prediction.tpot_s, prediction.cost_byte_s)


def _by_cost(option: Option) -> tuple[float, int]:
    return (option.estimate.cost_byte_s, option.shape.num_stages)
