"""Which units of the models that wait the nodes' host caches hold: what plans need to know of the
millions that there are. Pure."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from immutables import Map


@dataclass(frozen=True)
class UnitsChanged:
    """What came into a node's host cache and what left it."""

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed)


@dataclass(frozen=True)
class UnitHolders:
    """Of one manifest: its units, and which of them each node holds. Only nodes that hold any."""

    units: frozenset[str]
    by_node: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def changed(self, node_id: str, change: UnitsChanged) -> "UnitHolders":
        before = self.by_node.get(node_id, frozenset())
        held = (before | (change.added & self.units)) - change.removed
        if held == before:
            return self
        others = {id_: units for id_, units in self.by_node.items() if id_ != node_id}
        return UnitHolders(self.units, {**others, node_id: held} if held else others)


@dataclass(frozen=True)
class CachedUnits:
    """By the digest of the manifest, and by unit which manifests have it."""

    holders: Map[str, UnitHolders] = field(default_factory=Map)
    manifests: Map[str, frozenset[str]] = field(default_factory=Map)

    def of(self, manifest_digest: str) -> Mapping[str, frozenset[str]] | None:
        """By node; None: not read yet."""
        found = self.holders.get(manifest_digest)
        return None if found is None else found.by_node

    def keep_only(self, manifest_digests: Collection[str]) -> "CachedUnits":
        """Without models that wait no longer."""
        gone = [digest for digest in self.holders if digest not in manifest_digests]
        if not gone:
            return self
        holders, manifests = self.holders.mutate(), self.manifests.mutate()
        for digest in gone:
            for unit in holders.pop(digest).units:
                left = manifests[unit] - {digest}
                if left:
                    manifests[unit] = left
                else:
                    del manifests[unit]
        return CachedUnits(holders.finish(), manifests.finish())

    def including(self, found: Mapping[str, UnitHolders]) -> "CachedUnits":
        """With those that were read."""
        if not found:
            return self
        manifests = self.manifests.mutate()
        for digest, holders in found.items():
            for unit in holders.units:
                manifests[unit] = manifests.get(unit, frozenset()) | {digest}
        return CachedUnits(self.holders.update(found), manifests.finish())

    def changed(self, changes: Mapping[str, UnitsChanged]) -> "CachedUnits":
        """As host caches are now; `changes` are by node. What no model waits for is passed over."""
        holders = self.holders.mutate()
        for node_id, change in changes.items():
            for digest in self._manifests_of(change.added | change.removed):
                holders[digest] = holders[digest].changed(node_id, change)
        return CachedUnits(holders.finish(), self.manifests)

    def _manifests_of(self, units: Collection[str]) -> set[str]:
        return {digest for unit in units for digest in self.manifests.get(unit, ())}


def holders_of(
    manifests: Mapping[str, frozenset[str]], nodes_by_unit: Mapping[str, Collection[str]]
) -> dict[str, UnitHolders]:
    """`manifests`: the units of each; `nodes_by_unit`: who has them."""
    found = {}
    for digest, units in manifests.items():
        by_node: defaultdict[str, set[str]] = defaultdict(set)
        for unit in units:
            for node_id in nodes_by_unit.get(unit, ()):
                by_node[node_id].add(unit)
        held = {node_id: frozenset(own) for node_id, own in by_node.items()}
        found[digest] = UnitHolders(units, held)
    return found
