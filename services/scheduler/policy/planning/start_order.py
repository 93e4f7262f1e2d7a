"""In which order models get endpoints: fair between tenants. Pure.

What somebody waits for goes before what nobody does, and a first endpoint of a model before another
one. Among equals the tenant that has the fewest
endpoints is next, as if each of its models before this one had been started already: so tenants
that wait take turns, and one with many models delays the others' by no more than their own turn.
Within a tenant, and at equal turns, whoever waits longest is first.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from operator import is_


@dataclass(frozen=True)
class WaitingModel:
    model_id: str
    tenant: str
    num_live: int  # endpoints of it
    arrived_at_s: float  # of whoever came first
    is_asked: bool = True  # somebody waits for it

    @property
    def _own_order(self) -> tuple[bool, int, float, str]:
        return (not self.is_asked, self.num_live, self.arrived_at_s, self.model_id)


@dataclass(frozen=True)
class Place:
    """What was found out of a model. It holds until a time, and while that of which it was made is
    the same, by identity."""

    waiting: WaitingModel | None  # None: it needs no endpoint, or cannot have one now
    until_s: float
    made_of: tuple[object, ...]

    def holds(self, made_of: tuple[object, ...], now_s: float) -> bool:
        return now_s < self.until_s and all(map(is_, self.made_of, made_of))


@dataclass(frozen=True)
class StartPlaces:
    """Of the models that are asked for. `gateways`: whether each is heard, and whether it is lost;
    then whose requests count is another."""

    gateways: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    by_model: Mapping[str, Place] = field(default_factory=dict)
    # Mappings by model, of whose values the places were made.
    sources: tuple[Mapping[str, object], ...] = ()


def start_order(waiting: Iterable[WaitingModel], num_live_of: Mapping[str, int]) -> list[str]:
    """Ids of the models, first in turn first; `num_live_of` counts each tenant's endpoints."""
    by_tenant: defaultdict[str, list[WaitingModel]] = defaultdict(list)
    for model in sorted(waiting, key=lambda model: model._own_order):
        by_tenant[model.tenant].append(model)
    turns = [
        (
            not model.is_asked,
            model.num_live,
            num_live_of.get(tenant, 0) + turn,
            model.arrived_at_s,
            model.model_id,
        )
        for tenant, models in by_tenant.items()
        for turn, model in enumerate(models)
    ]
    return [model_id for *_, model_id in sorted(turns)]
