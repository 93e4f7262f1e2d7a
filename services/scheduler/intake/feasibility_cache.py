"""What the cluster could do for a model if it were empty: asked by many."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.clock import Clock
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.policy.cluster import Deployable, Device, DeviceSize
from services.scheduler.policy.nodes.cached_units import holders_of
from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.planning import planner
from services.scheduler.policy.planning.feasibility import PlannedShape, shortage
from services.scheduler.policy.planning.idle_nodes import IdleNodes
from services.scheduler.policy.planning.plans import NoRoom, Plan
from services.scheduler.policy.planning.usable_cluster import by_node
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.store import devices, host_cache


@dataclass(frozen=True)
class Feasibility:
    shortage: str | None  # why it could never run
    best: Plan | NoRoom  # of what is there now


@dataclass(frozen=True)
class _Shape:
    """All that a plan on a cluster without endpoints depends on, of a model."""

    planned: PlannedShape
    cached_digest: str  # of the manifest, where a node holds a part of it

    @classmethod
    def of(cls, deployable: Deployable) -> "_Shape":
        digest = deployable.manifest_digest if deployable.cached else ""
        return cls(PlannedShape.of(deployable), digest)


@dataclass
class _Reading:
    at_s: float
    cluster: Cluster
    sizes: tuple[DeviceSize, ...] | None = None  # None: nobody has needed them
    plans: dict[_Shape, Plan | NoRoom] = field(default_factory=dict)
    answers: dict[tuple[_Shape, str], Feasibility] = field(default_factory=dict)  # and by name
    cached: dict[str, Mapping[str, frozenset[str]]] = field(default_factory=dict)  # by manifest

    def best(self, deployable: Deployable, shape: _Shape) -> Plan | NoRoom:
        if shape not in self.plans:
            self.plans[shape] = planner.plan(self.cluster, deployable)
        return self.plans[shape]


@dataclass
class FeasibilityCache:
    """A thousand requests that come at once are answered from one reading, and models of equal
    shape by one plan. What the leader's rounds know of the nodes is taken from them; rows are read
    where no round has been yet, and for whoever finds no plan."""

    log: HeartbeatLog
    clock: Clock
    max_age_s: float
    latest: Callable[[], Snapshot | None]  # of the rounds
    _idle: IdleNodes = field(default_factory=IdleNodes)
    _reading: _Reading | None = None

    async def of(
        self, session: AsyncSession, deployable: Deployable, enough_s: float = 0.0
    ) -> Feasibility:
        """`enough_s`: a plan that fetches everything within this time is answer enough; else it is
        asked what host caches have."""
        now_s, reading = self.clock.monotonic_s(), self._reading
        if reading is None or now_s - reading.at_s >= self.max_age_s:
            reading = self._reading = await self._read(session, now_s)
        best = reading.best(deployable, _Shape.of(deployable)) if enough_s > 0 else None
        if isinstance(best, Plan) and best.fetch_s <= enough_s:
            return Feasibility(None, best)
        asked = await _with_cached(session, reading, deployable)
        shape = _Shape.of(asked)
        key = (shape, asked.model.name)
        if key not in reading.answers:
            reading.answers[key] = await _answer(session, reading, asked, shape)
        return reading.answers[key]

    async def _read(self, session: AsyncSession, now_s: float) -> _Reading:
        snapshot, observed = self.latest(), self.log.snapshot()
        offered = await _offered(session) if snapshot is None else snapshot.devices
        known = snapshot.sizes if snapshot is not None and snapshot.sizes else None
        return _Reading(now_s, self._idle.cluster(observed, offered), known)


async def _with_cached(
    session: AsyncSession, reading: _Reading, deployable: Deployable
) -> Deployable:
    """With what the nodes have of its units."""
    digest, units = deployable.manifest_digest, deployable.unit_digests
    if digest not in reading.cached:
        found = holders_of({digest: units}, await host_cache.nodes_by_unit(session, units))
        reading.cached[digest] = found[digest].by_node
    return replace(deployable, cached=reading.cached[digest])


async def _answer(
    session: AsyncSession, reading: _Reading, asked: Deployable, shape: _Shape
) -> Feasibility:
    """What can be planned lacks nothing."""
    best = reading.best(asked, shape)
    if isinstance(best, Plan):
        return Feasibility(None, best)
    if reading.sizes is None:
        reading.sizes = await devices.load_sizes(session)
    return Feasibility(shortage(asked, reading.sizes), best)


async def _offered(session: AsyncSession) -> dict[str, tuple[Device, ...]]:
    return by_node(await devices.load_devices(session))
