"""The models that wait for an endpoint, whoever comes first ahead. Kept from round to round.

A round may have no time to plan for all of them. A pass is as many rounds as it takes to reach each
once; who was not reached yet is planned for first, but never with what those ahead will take.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from services.scheduler.policy.cluster import Model
from services.scheduler.policy.planning.plans import Plan


@dataclass
class Line:
    _models: tuple[Model, ...] = ()
    _claims: dict[str, Plan] = field(default_factory=dict)  # of models, once there is room
    _holder: str | None = None  # claims what is not even being freed
    _reached: set[str] = field(default_factory=set)  # in this pass

    @property
    def is_all_reached(self) -> bool:
        return all(model.id in self._reached for model in self._models)

    def keep_only(self, models: Sequence[Model]) -> None:
        """The line as it is now; who left it claims nothing."""
        self._models = tuple(models)
        ids = {model.id for model in models}
        self._claims = {id_: plan for id_, plan in self._claims.items() if id_ in ids}
        self._reached &= ids
        self._holder = self._holder if self._holder in ids else None
        self.end_pass()

    def next_up(self) -> list[Model]:
        """Whom this pass has not reached."""
        return [model for model in self._models if model.id not in self._reached]

    def has_reached(self, model_id: str) -> None:
        self._reached.add(model_id)

    def end_pass(self) -> None:
        """The next pass begins with the first in line, if this one has reached all."""
        if self.is_all_reached:
            self._reached.clear()

    def claim(self, model_id: str, plan: Plan | None) -> None:
        """What the model takes once there is room; None: nothing any more."""
        if self._holder == model_id:
            self._holder = None
        if plan is None:
            self._claims.pop(model_id, None)
        else:
            self._claims[model_id] = plan

    def may_hold(self, model_id: str) -> bool:
        """One model at a time: what several hold would be useless to all others."""
        return self._holder in (None, model_id)

    def hold(self, model_id: str, plan: Plan | None) -> None:
        """Claim what the model takes once others have ended, whenever that is."""
        self.claim(model_id, plan)
        self._holder = None if plan is None else model_id

    def claims_before(self, model_id: str) -> Iterator[Plan]:
        for model in self._models:
            if model.id == model_id:
                return
            if model.id in self._claims:
                yield self._claims[model.id]
