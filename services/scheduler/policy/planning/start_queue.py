"""The models that wait for an endpoint: claims on room, and whom planning has reached. Pure.

The order is `start_order.py`'s: room that is being made for one model is not given to those behind
it. A round may have no time to plan for all. A pass is as many rounds as it takes to reach each
once; who was not reached yet is planned for first, but never with what those ahead will take.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from libs.common.reasons import Reason
from services.scheduler.policy.persistent import drop, put
from services.scheduler.policy.planning.plans import Plan

V = TypeVar("V")


@dataclass(frozen=True)
class StartQueue:
    """`order` is the queue as the last round saw it, by model id."""

    order: tuple[str, ...] = ()
    claims: Mapping[str, Plan] = field(default_factory=dict)  # by model, once there is room
    holder: str | None = None  # claims what is not even being freed
    reached: frozenset[str] = frozenset()  # in this pass
    retried: frozenset[str] = frozenset()  # of these once more, because what they claim came free
    waits: Mapping[str, Reason] = field(default_factory=dict)  # why, by model, as it was said last

    @property
    def is_all_reached(self) -> bool:
        return self.reached.issuperset(self.order)

    def keep_only(self, order: Sequence[str]) -> "StartQueue":
        """The queue as it is now; who left it claims nothing."""
        kept, ids = tuple(order), frozenset(order)
        return replace(
            self,
            order=kept,
            claims=_kept(self.claims, ids),
            waits=_kept(self.waits, ids),
            holder=self.holder if self.holder in ids else None,
            reached=self.reached & ids,
            retried=self.retried & ids,
        ).end_pass()

    def next_up(self, has_room_for: Callable[[Plan], bool]) -> Iterator[str]:
        """Whom this pass has not reached, and those for whom there is by now what they claim: they
        need not wait for the pass to end, once. In order."""

        def is_due(model_id: str) -> bool:
            if model_id not in self.reached:
                return True
            claim = None if model_id in self.retried else self.claims.get(model_id)
            return claim is not None and has_room_for(claim)

        return filter(is_due, self.order)

    def has_reached(self, model_ids: Collection[str]) -> "StartQueue":
        again = self.reached.intersection(model_ids)
        return replace(
            self, reached=self.reached.union(model_ids), retried=self.retried.union(again)
        )

    def end_pass(self) -> "StartQueue":
        """The next pass begins with the first in the queue, if this one has reached all."""
        if not self.is_all_reached:
            return self
        return replace(self, reached=frozenset(), retried=frozenset())

    def claim(self, model_id: str, plan: Plan | None) -> "StartQueue":
        """What the model takes once there is room; None: nothing any more."""
        if plan is None:
            claims = drop(self.claims, model_id)
        else:
            claims = put(self.claims, model_id, plan)
        holder = None if self.holder == model_id else self.holder
        return replace(self, claims=claims, holder=holder)

    def wait(self, model_id: str, reason: Reason | None) -> "StartQueue":
        """Why the model waits now; None: nobody can say."""
        if self.waits.get(model_id) is reason:
            return self
        if reason is None:
            return replace(self, waits=drop(self.waits, model_id))
        return replace(self, waits=put(self.waits, model_id, reason))

    def may_hold(self, model_id: str) -> bool:
        """One model at a time: what several hold would be useless to all others."""
        return self.holder in (None, model_id)

    def hold(self, model_id: str, plan: Plan | None) -> "StartQueue":
        """Claim what the model takes once others have ended, whenever that is."""
        return replace(self.claim(model_id, plan), holder=None if plan is None else model_id)

    def claims_between(self, first: int, last: int) -> list[Plan]:
        """Of those at these places of the queue, the last one excluded."""
        if not self.claims:
            return []
        ids = self.order[first:last]
        return [self.claims[model_id] for model_id in ids if model_id in self.claims]


def _kept(of: Mapping[str, V], ids: frozenset[str]) -> Mapping[str, V]:
    for gone in [model_id for model_id in of if model_id not in ids]:
        of = drop(of, gone)
    return of
