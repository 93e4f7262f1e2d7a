"""What the cluster could do for a model if it were empty: read now and then, asked by many."""

from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.clock import Clock
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.policy.cluster import Cluster, Deployable, DeviceSize
from services.scheduler.policy.observed import Observed
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.feasibility import shortage
from services.scheduler.policy.planning.plans import NoRoom, Plan
from services.scheduler.policy.planning.usable_cluster import by_node, idle_cluster
from services.scheduler.store import devices


@dataclass(frozen=True)
class Feasibility:
    shortage: str | None  # why it could never run
    best: Plan | NoRoom  # of what is there now


@dataclass(frozen=True)
class _Ask:
    """All that the answer depends on, of a model; its name is in the answer."""

    name: str
    manifest_digest: str
    max_pipeline_size: int
    max_slots: int
    max_context_tokens: int | None
    kv_cache_bytes: int | None

    @classmethod
    def of(cls, deployable: Deployable) -> "_Ask":
        model = deployable.model
        return cls(
            model.name,
            deployable.manifest_digest,
            model.max_pipeline_size,
            model.max_slots,
            model.max_context_tokens,
            model.kv_cache_bytes,
        )


@dataclass(frozen=True)
class _Reading:
    at_s: float
    sizes: tuple[DeviceSize, ...]
    cluster: Cluster
    observed: Observed
    answers: dict[_Ask, Feasibility] = field(default_factory=dict)

    def feasibility(self, deployable: Deployable) -> Feasibility:
        ask = _Ask.of(deployable)
        if ask not in self.answers:
            cached = self.observed.cached(deployable.unit_digests)
            wanted = replace(deployable, cached=cached)
            best = planner.plan(self.cluster, wanted)
            self.answers[ask] = Feasibility(shortage(wanted, self.sizes), best)
        return self.answers[ask]


@dataclass
class FeasibilityCache:
    """A thousand requests that come at once are answered from one reading: both it and a plan cost
    more the larger the cluster is."""

    log: HeartbeatLog
    clock: Clock
    max_age_s: float
    _reading: _Reading | None = None

    async def of(self, session: AsyncSession, deployable: Deployable) -> Feasibility:
        now_s, reading = self.clock.monotonic_s(), self._reading
        if reading is None or now_s - reading.at_s >= self.max_age_s:
            known = await devices.load_sizes(session)
            offered, observed = await devices.load_devices(session), self.log.snapshot()
            idle = idle_cluster(observed, by_node(offered))
            reading = self._reading = _Reading(now_s, known, idle, observed)
        return reading.feasibility(deployable)
