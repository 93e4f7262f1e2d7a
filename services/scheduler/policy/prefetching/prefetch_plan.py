"""Where an endpoint of a model would start, and what its nodes would fetch for that. Pure."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from libs.common.ids import derived_id
from services.scheduler.policy.cluster import Deployable
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.memory import file_bytes
from services.scheduler.policy.planning.plans import Plan, StagePlan
from services.scheduler.policy.planning.round_room import RoundRoom
from services.scheduler.policy.prefetching.benefit import Benefit
from services.scheduler.policy.prefetching.fetch_time import background_fetch_s
from services.scheduler.policy.prefetching.prefetch import Prefetch
from services.scheduler.policy.snapshot import Snapshot

PATIENCE = 10.0  # times the predicted fetch: then it is dropped
MIN_PATIENCE_S = 60.0


@dataclass(frozen=True)
class PrefetchPlan:
    stages: tuple[StagePlan, ...]
    benefit: Benefit
    fetch_s: float  # predicted, of all that is missing, in the background

    @property
    def is_cached(self) -> bool:
        return all(stage.is_cached for stage in self.stages)

    @property
    def lacking(self) -> list[list[StagePlan]]:
        """The stages of each node that lacks any unit of them."""
        by_node: dict[str, list[StagePlan]] = {}
        for stage in self.stages:
            by_node.setdefault(stage.node_id, []).append(stage)
        return [own for own in by_node.values() if not all(stage.is_cached for stage in own)]


def prefetch_plan(
    snapshot: Snapshot, deployable: Deployable, room: RoundRoom, without: Collection[str]
) -> PrefetchPlan | None:
    """As the planner would start it now; where there is no room, as it would if somebody asked, so
    that others gave way. `without`: nodes that cannot prefetch. None: it would not start."""
    now = room.now(snapshot, deployable.model.id)
    choice = planner.choose(now.changed(dict.fromkeys(without)), deployable)
    room.cost.add_choice(now, choice)
    target_s = deployable.objective.ttft_s
    if isinstance(choice.plan, Plan) and choice.prediction is not None:
        return _of(choice.plan, choice.prediction.ttft_s, target_s, room)
    found = None if without else room.reclaim(snapshot, deployable)
    # Of what would be there once others have gone nothing but the start is predicted.
    return None if found is None else _of(found.plan, found.plan.start_s, target_s, room)


def _of(plan: Plan, ttft_s: float, target_s: float, room: RoundRoom) -> PrefetchPlan:
    missing = {stage.node_id: 0 for stage in plan.stages}
    for stage in plan.stages:
        missing[stage.node_id] += stage.weight_bytes - stage.cached_bytes
    fetch_s = background_fetch_s(room.network, missing)
    return PrefetchPlan(plan.stages, Benefit.of(plan, ttft_s, target_s), fetch_s)


def prefetches_of(
    snapshot: Snapshot, deployable: Deployable, plan: PrefetchPlan, until_s: float
) -> Iterator[Prefetch]:
    """One for each node that lacks anything. `until_s`: when its model is not expected any more."""
    model, now_s = deployable.model, snapshot.now_s
    patience_s = max(MIN_PATIENCE_S, PATIENCE * plan.fetch_s)
    for index, own in enumerate(plan.lacking):
        yield Prefetch(
            id=derived_id("prefetch", snapshot.nonce, f"{model.id}/{index}"),
            tenant=model.tenant,
            model_id=model.id,
            node_id=own[0].node_id,
            fetch_id=derived_id("fetch", snapshot.nonce, f"{model.id}/prefetch/{index}"),
            manifest_digest=deployable.manifest_digest,
            unit_digests=tuple(digest for stage in own for digest in stage.unit_digests),
            file_bytes=sum(file_bytes(unit) for stage in own for unit in stage.units),
            deadline_at_s=min(until_s, now_s + patience_s),
            expires_at_s=until_s,
        )
