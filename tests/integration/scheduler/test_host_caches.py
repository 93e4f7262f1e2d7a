"""Rows of host caches are what the nodes have, in the end and at little cost, whatever is lost."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from libs.common.bus.bus import Bus
from libs.common.bus.messages import (
    BucketDigests,
    CachedUnitsListed,
    ListCachedUnits,
    ReadBucketDigests,
)
from libs.common.bus.subjects import NODE_BUCKET_DIGESTS, NODE_CACHED_UNITS
from libs.common.ids import new_id
from libs.common.weights.unit_set_digest import UnitSetDigest
from services.fetcher.hostcache.complete_units import TELL_FOR_S, CompleteUnits
from services.scheduler.observation.host_cache_comparison import MAX_DELAY_S
from tests.integration.scheduler.scale import QuietLeader, QuietNode, matching
from tests.integration.scheduler.world import World, digest, summary_of
from tests.integration.servers import TestDatabase

UNITS = [digest(f"unit {i}") for i in range(300)]
MODEL_UNITS = [unit.digest for unit in summary_of("tiny").units]
ROWS = """
SELECT nodes.id, num_cached_units, cached_units_digest,
    coalesce(
        array_agg(encode(unit_digest, 'hex')) FILTER (WHERE node_id IS NOT NULL), '{}'
    ) AS units
FROM nodes LEFT JOIN host_cache ON node_id = nodes.id GROUP BY nodes.id
"""
CHANGES = ("DELETE FROM host_cache", "INSERT INTO host_cache", "UPDATE nodes SET cached")
READS = ("SELECT nodes.id, nodes.cached_units_digest", "SELECT host_cache")


@dataclass
class CachingNode(QuietNode):
    """Tells its host cache as a fetcher does, and answers as one."""

    asked: Counter[str] = field(default_factory=Counter)

    async def listen(self, bus: Bus) -> None:
        await bus.subscribe(NODE_BUCKET_DIGESTS, self.node_id, self.read_buckets)
        await bus.subscribe(NODE_CACHED_UNITS, self.node_id, self.list_units)

    async def read_buckets(self, message: ReadBucketDigests) -> BucketDigests:
        self.asked["buckets"] += 1
        return self.units.bucket_digests(self.boot_id)

    async def list_units(self, message: ListCachedUnits) -> CachedUnitsListed:
        self.asked["units"] += 1
        return self.units.listed(self.boot_id, message)

    def hold(self, units: Collection[str]) -> None:
        """These and no others."""
        for unit in set(self.units) - set(units):
            self.units.discard(unit)
        for unit in units:
            self.units.add(unit)

    def restart(self, leader: QuietLeader) -> None:
        """Its units outlive it."""
        held, self.boot_id, self.sequence = set(self.units), new_id("boot"), 0
        self.units = CompleteUnits(leader.clock.monotonic_s)
        self.hold(held)
        self.units.forget_changes()


@dataclass
class Scene:
    world: World
    leader: QuietLeader
    nodes: list[CachingNode] = field(default_factory=list)

    async def add_nodes(self, count: int, kind: type[CachingNode] = CachingNode) -> None:
        for _ in range(count):
            node = kind(f"node-{len(self.nodes)}")
            node.units = CompleteUnits(self.leader.clock.monotonic_s)
            await node.listen(self.world.broker.bus())
            self.nodes.append(node)

    async def tell(
        self, nodes: Collection[CachingNode] | None = None, *, after_s: float = 1.0
    ) -> Counter[str]:
        """Heartbeats of these, or of all, and the round that follows; its statements."""
        said = self.nodes if nodes is None else nodes
        self.leader.clock.advance(after_s)
        self.leader.hear(said)
        for node in said:
            self.leader.rounds.changes.nodes.add(node.node_id)
            node.units.was_told(node.units.report())
        return await self.leader.round()

    async def compare(self) -> None:
        await self.leader.controller.comparison.work()

    @property
    def differing(self) -> set[str]:
        return self.leader.controller.comparison.records.differing

    async def settle(self) -> None:
        """Everybody speaks, and what differs is compared until nothing does."""
        for _ in range(8):
            await self.tell(after_s=MAX_DELAY_S)
            if not self.differing:
                return
            await self.compare()
        raise AssertionError(f"{self.differing} still differ")

    async def next_leader(self) -> None:
        self.leader = await QuietLeader.begin(self.world)

    async def require_rows_to_be_right(self) -> None:
        rows = {row.id: row for row in await self.world.rows(ROWS)}
        for node in self.nodes:
            row, held = rows[node.node_id], set(node.units)
            assert set(row.units) == held
            assert row.num_cached_units == len(held)
            assert row.cached_units_digest == UnitSetDigest.of(held).to_bytes()


@asynccontextmanager
async def _scene(database: TestDatabase) -> AsyncIterator[Scene]:
    world = World(database.owner)
    scene = Scene(world, await QuietLeader.begin(world))
    try:
        yield scene
    finally:
        await scene.leader.end()
        await world.close()


@pytest.mark.parametrize("seed", range(4))
async def test_rows_are_what_nodes_have_whatever_is_lost_and_whoever_restarts(
    database: TestDatabase, seed: int
) -> None:
    rng = random.Random(seed)
    async with _scene(database) as scene:
        await scene.add_nodes(3)
        for _ in range(60):
            node = rng.choice(scene.nodes)
            match rng.choice(["change", "change", "tell", "tell", "lose", "compare", "restart"]):
                case "change":
                    node.hold(rng.sample(UNITS, rng.choice([0, 5, 150, 295])))
                case "tell":
                    await scene.tell([node])
                case "lose":  # it was sent, and nobody heard it
                    node.heartbeats()
                    node.units.was_told(node.units.report())
                    scene.leader.clock.advance(rng.choice([0.1, TELL_FOR_S]))
                case "compare":
                    await scene.compare()
                case "restart":
                    if rng.random() < 0.5:
                        node.restart(scene.leader)
                    else:
                        await scene.leader.end()
                        await scene.next_leader()
        await scene.settle()
        await scene.require_rows_to_be_right()


async def test_a_lost_heartbeat_costs_nothing(database: TestDatabase) -> None:
    async with _scene(database) as scene:
        await scene.add_nodes(1)
        (node,) = scene.nodes
        await scene.tell()
        for unit in UNITS[:20]:
            node.units.add(unit)
            node.heartbeats()  # lost
            node.units.was_told(node.units.report())
            scene.leader.clock.advance(TELL_FOR_S / 25)
        await scene.tell(after_s=0.0)
        await scene.compare()

        await scene.require_rows_to_be_right()
        assert not node.asked


async def test_who_leads_or_fetches_anew_asks_for_nothing_that_is_known(
    database: TestDatabase,
) -> None:
    async with _scene(database) as scene:
        await scene.add_nodes(2)
        for node in scene.nodes:
            node.hold(UNITS[:50])
        await scene.settle()
        known = [Counter(node.asked) for node in scene.nodes]

        await scene.leader.end()
        await scene.next_leader()
        taken_over = await scene.tell()
        scene.nodes[0].restart(scene.leader)
        restarted = await scene.tell()
        await scene.compare()

        assert [node.asked for node in scene.nodes] == known
        assert matching(taken_over, *CHANGES) == matching(restarted, *CHANGES) == 0
        assert matching(taken_over, *READS) == 1 and matching(restarted, *READS) == 0
        await scene.require_rows_to_be_right()


async def test_a_round_has_as_many_statements_for_many_changed_nodes_as_for_two(
    database: TestDatabase,
) -> None:
    async with _scene(database) as scene:
        await scene.add_nodes(40)
        await scene.tell()
        for node in scene.nodes:
            node.hold(UNITS[:5])
        await scene.tell()
        counts: list[int] = []
        for changed in (scene.nodes[:2], scene.nodes):
            for node in changed:
                node.hold([*UNITS[3:8], digest(f"{node.node_id} {len(counts)}")])
            counts.append(matching(await scene.tell(changed), *CHANGES, *READS))

        assert counts == [3, 3], "one that deletes, one that inserts, one for the nodes' own rows"
        await scene.require_rows_to_be_right()


async def test_a_quiet_node_costs_no_statement(database: TestDatabase) -> None:
    async with _scene(database) as scene:
        await scene.add_nodes(3)
        for node in scene.nodes:
            node.hold(UNITS[:100])
        await scene.settle()

        assert matching(await scene.tell(), *CHANGES, *READS) == 0


async def test_only_what_differs_is_listed(database: TestDatabase) -> None:
    async with _scene(database) as scene:
        await scene.add_nodes(1)
        (node,) = scene.nodes
        node.hold(UNITS)
        await scene.settle()
        await scene.world.execute(
            "DELETE FROM host_cache WHERE encode(unit_digest, 'hex') = :unit", unit=UNITS[0]
        )
        await scene.world.execute("UPDATE nodes SET cached_units_digest = decode(md5('x'), 'hex')")
        await scene.leader.end()
        await scene.next_leader()
        node.asked.clear()

        await scene.settle()

        assert node.asked == {"buckets": 1, "units": 1}
        await scene.require_rows_to_be_right()


class LyingNode(CachingNode):
    """Has what it says at one time and not at another."""

    async def read_buckets(self, message: ReadBucketDigests) -> BucketDigests:
        told = await super().read_buckets(message)
        return told.model_copy(update={"set_digests": ("ab" * 16,) * 256})

    async def list_units(self, message: ListCachedUnits) -> CachedUnitsListed:
        told = await super().list_units(message)
        return told.model_copy(update={"units": (*UNITS[7:9], *UNITS[7:9]), "is_last": False})


class BrokenNode(CachingNode):
    async def read_buckets(self, message: ReadBucketDigests) -> BucketDigests:
        self.asked["buckets"] += 1
        raise RuntimeError("a bug")


@pytest.mark.parametrize("kind", [LyingNode, BrokenNode])
async def test_a_fetcher_that_answers_nonsense_costs_itself_only(
    database: TestDatabase, kind: type[CachingNode]
) -> None:
    async with _scene(database) as scene:
        await scene.add_nodes(1, kind)
        await scene.add_nodes(3)
        liar, *others = scene.nodes
        for node in scene.nodes:
            node.hold(UNITS)  # more than a heartbeat tells
        for _ in range(10):
            await scene.tell(after_s=0.4)
            await scene.compare()

        assert scene.differing == {liar.node_id}
        assert liar.asked["buckets"] <= 4, "it is asked less and less often"
        assert all(node.asked["buckets"] == 1 for node in others)
        scene.nodes = others
        await scene.require_rows_to_be_right()


class ChangingNode(CachingNode):
    """Fetches and evicts while it is asked."""

    scene: Scene

    async def list_units(self, message: ListCachedUnits) -> CachedUnitsListed:
        answer = await super().list_units(message)
        self.units.discard(UNITS[5])
        self.units.add(digest("new"))
        await self.scene.tell([self])
        return answer


async def test_what_is_told_while_a_node_is_compared_is_not_undone(database: TestDatabase) -> None:
    async with _scene(database) as scene:
        ChangingNode.scene = scene
        await scene.add_nodes(1, ChangingNode)
        (node,) = scene.nodes
        node.hold(UNITS)
        await scene.tell()

        await scene.compare()

        await scene.require_rows_to_be_right()
        assert not scene.differing


async def test_a_waiting_model_is_planned_with_what_nodes_have(database: TestDatabase) -> None:
    async with _scene(database) as scene:
        await scene.add_nodes(2)
        first, second = scene.nodes
        first.hold(MODEL_UNITS[:2])
        await scene.tell()
        await _let_a_model_wait(scene.world)

        begun = await scene.leader.round(after_s=1.0)
        assert _cached(scene) == {first.node_id: frozenset(MODEL_UNITS[:2])}
        assert matching(begun, "SELECT host_cache") == 1
        second.hold(MODEL_UNITS[3:5])
        first.hold(MODEL_UNITS[1:2])
        later = await scene.tell()
        assert _cached(scene) == {
            first.node_id: frozenset(MODEL_UNITS[1:2]),
            second.node_id: frozenset(MODEL_UNITS[3:5]),
        }
        assert matching(later, "SELECT host_cache") == 0
        second.hold([*UNITS, *MODEL_UNITS])  # more than a heartbeat tells
        await scene.tell()
        await scene.compare()
        await scene.tell()
        assert _cached(scene)[second.node_id] == set(MODEL_UNITS)
        await scene.world.execute("UPDATE requests SET state = 'ENDED', outcome = 'cancelled'")
        await scene.tell()
        snapshot = scene.leader.rounds.snapshot
        assert snapshot is not None and snapshot.cached is not None
        assert not snapshot.cached.holders and not snapshot.cached.manifests


async def _let_a_model_wait(world: World) -> None:
    """One that no node has room for."""
    model_id = await world.add_model(kv_cache_bytes=2**50)
    await world.execute(
        """
        INSERT INTO requests (id, tenant, gateway_id, model_id, attempt, state, num_prompt_tokens,
            max_tokens, arrived_at, deadline_at)
        VALUES ('request-1', 't', 'gateway-1', :model, 1, 'QUEUED', 1, 1, now(), now() + '1 day')
        """,
        model=model_id,
    )


def _cached(scene: Scene) -> dict[str, frozenset[str]]:
    snapshot = scene.leader.rounds.snapshot
    assert snapshot is not None and snapshot.cached is not None
    return dict(snapshot.cached.of(digest("manifest tiny")) or {})
