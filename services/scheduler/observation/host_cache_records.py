"""Writes what fetchers tell of their host caches: changes to rows, and the digest of each node's
rows, which is compared with the digest that its fetcher tells."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.bus.messages import FetcherHeartbeat
from services.scheduler.observation.heartbeat_limits import MAX_UNITS
from services.scheduler.policy.nodes.cached_units import UnitsChanged
from services.scheduler.store import host_cache
from services.scheduler.store.host_cache import RecordedSet


@dataclass(frozen=True)
class _Heard:
    """The last report that was dealt with."""

    boot_id: str
    version: int

    @classmethod
    def of(cls, beat: FetcherHeartbeat) -> "_Heard":
        return cls(beat.boot_id, beat.host_cache.version)


@dataclass
class HostCacheChanges:
    """What a transaction has changed."""

    by_node: dict[str, UnitsChanged] = field(default_factory=dict)
    after_commit: list[Callable[[], None]] = field(default_factory=list)

    def merge(self, other: "HostCacheChanges") -> None:
        self.by_node |= other.by_node
        self.after_commit += other.after_commit


@dataclass
class HostCacheRecords:
    """Remembers of each node what its rows are together, never which they are.

    `differing` are the nodes whose rows are not what their fetchers have, although all changes that
    were told have been written: they are to be compared.
    """

    differing: set[str] = field(default_factory=set)
    _recorded: dict[str, RecordedSet] = field(default_factory=dict)
    _heard: dict[str, _Heard] = field(default_factory=dict)

    async def record(
        self, session: AsyncSession, heartbeats: Sequence[FetcherHeartbeat]
    ) -> HostCacheChanges:
        """Of nodes that tell what they have not told yet: a few statements for all of them."""
        news = [beat for beat in heartbeats if self._heard.get(beat.node_id) != _Heard.of(beat)]
        if not news:
            return HostCacheChanges()
        recorded = await self._load(session, [beat.node_id for beat in news])
        told = {
            beat.node_id: _told(beat, recorded[beat.node_id])
            for beat in news
            if beat.node_id in recorded and _differs(beat, recorded[beat.node_id])
        }
        done = await self._change(session, recorded, told)
        done.after_commit.append(lambda: self._note(news))
        return done

    async def correct(
        self, session: AsyncSession, node_id: str, change: UnitsChanged
    ) -> HostCacheChanges:
        """By what a comparison has found."""
        recorded = await self._load(session, [node_id])
        return await self._change(session, recorded, {node_id: change})

    async def correct_set(
        self, session: AsyncSession, node_id: str, lacking: RecordedSet
    ) -> HostCacheChanges:
        """The node's own row lacks this of what its rows in `host_cache` are together."""
        recorded = (await self._load(session, [node_id]))[node_id]
        right = recorded.plus(lacking)
        self._recorded.pop(node_id, None)
        await host_cache.write_sets(session, {node_id: right})
        return HostCacheChanges(after_commit=[lambda: self._recorded.update({node_id: right})])

    def forget(self, node_ids: Iterable[str]) -> None:
        """Their rows are new, or gone."""
        for node_id in node_ids:
            self._recorded.pop(node_id, None)
            self._heard.pop(node_id, None)
            self.differing.discard(node_id)

    def note(self, beat: FetcherHeartbeat) -> None:
        """See again whether the node's rows are what it tells."""
        recorded = self._recorded.get(beat.node_id)
        if recorded is None or _differs(beat, recorded):
            self.differing.add(beat.node_id)
        else:
            self.differing.discard(beat.node_id)

    async def _load(
        self, session: AsyncSession, node_ids: Iterable[str]
    ) -> Mapping[str, RecordedSet]:
        wanted = set(node_ids)
        found = {id_: self._recorded[id_] for id_ in wanted if id_ in self._recorded}
        unknown = wanted - found.keys()
        return {**found, **(await host_cache.load_sets(session, unknown) if unknown else {})}

    async def _change(
        self,
        session: AsyncSession,
        recorded: Mapping[str, RecordedSet],
        told: Mapping[str, UnitsChanged],
    ) -> HostCacheChanges:
        for node_id in told:
            # Forgotten until the commit: whether one that fails took place is not known.
            self._recorded.pop(node_id, None)
        done = await host_cache.change_units(session, told)
        changed = {id_: recorded[id_].changed(change) for id_, change in done.items()}
        await host_cache.write_sets(session, changed)
        known = {**recorded, **changed}
        return HostCacheChanges(done, [lambda: self._recorded.update(known)])

    def _note(self, beats: Iterable[FetcherHeartbeat]) -> None:
        for beat in beats:
            self._heard[beat.node_id] = _Heard.of(beat)
            self.note(beat)


def _differs(beat: FetcherHeartbeat, recorded: RecordedSet) -> bool:
    return str(recorded.digest) != beat.host_cache.set_digest


def _told(beat: FetcherHeartbeat, recorded: RecordedSet) -> UnitsChanged:
    """A fetcher that tells of new units for ever gets no more rows than a node can have."""
    report, is_full = beat.host_cache, recorded.num_units >= MAX_UNITS
    added = frozenset() if is_full else frozenset(report.added)
    return UnitsChanged(added, frozenset(report.removed))
