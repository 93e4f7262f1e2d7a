"""Rows of `host_cache`, and in `nodes` what each node's are together.

A statement is for any number of nodes. Digests are bytes in rows and hexadecimal everywhere else.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    LargeBinary,
    String,
    any_,
    bindparam,
    column,
    delete,
    func,
    literal,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

from libs.common.records.tables import HostCacheRow, NodeRow
from libs.common.weights.unit_set_digest import UnitSetDigest
from services.scheduler.policy.nodes.cached_units import UnitsChanged
from services.scheduler.store.columns.arrays import is_one_of, texts

_NODES_BY_UNIT = (
    select(HostCacheRow.unit_digest, func.array_agg(HostCacheRow.node_id).label("node_ids"))
    .where(HostCacheRow.unit_digest == any_(bindparam("units", type_=ARRAY(LargeBinary))))
    .group_by(HostCacheRow.unit_digest)
)


@dataclass(frozen=True)
class RecordedSet:
    """What a node's rows are together."""

    digest: UnitSetDigest = field(default_factory=UnitSetDigest)
    num_units: int = 0

    def changed(self, change: UnitsChanged) -> "RecordedSet":
        """`change` is what was really inserted and deleted."""
        num_units = self.num_units + len(change.added) - len(change.removed)
        return RecordedSet(self.digest.changed(change.added, change.removed), num_units)

    def plus(self, other: "RecordedSet") -> "RecordedSet":
        return RecordedSet(self.digest.plus(other.digest), self.num_units + other.num_units)

    def minus(self, other: "RecordedSet") -> "RecordedSet":
        return RecordedSet(self.digest.minus(other.digest), self.num_units - other.num_units)


async def read_one_snapshot(session: AsyncSession) -> None:
    """All that the transaction reads is of one moment, and it writes nothing."""
    await session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))


async def load_sets(session: AsyncSession, node_ids: Collection[str]) -> dict[str, RecordedSet]:
    columns = (NodeRow.id, NodeRow.cached_units_digest, NodeRow.num_cached_units)
    rows = await session.execute(select(*columns).where(is_one_of(NodeRow.id, node_ids)))
    return {
        row.id: RecordedSet(UnitSetDigest.from_bytes(row.cached_units_digest), row.num_cached_units)
        for row in rows
    }


async def write_sets(session: AsyncSession, sets: Mapping[str, RecordedSet]) -> None:
    if not sets:
        return
    recorded = list(sets.values())
    columns = (column("id", String), column("digest", LargeBinary), column("num", BigInteger))
    told = (
        func.unnest(
            texts(sets),
            _binaries([item.digest.to_bytes() for item in recorded]),
            literal([item.num_units for item in recorded], ARRAY(BigInteger)),
        )
        .table_valued(*columns)
        .render_derived()
    )
    await session.execute(
        update(NodeRow)
        .where(NodeRow.id == told.c.id)
        .values(cached_units_digest=told.c.digest, num_cached_units=told.c.num)
        .execution_options(synchronize_session=False)
    )


async def change_units(
    session: AsyncSession, told: Mapping[str, UnitsChanged]
) -> dict[str, UnitsChanged]:
    """By node, what was really inserted and deleted."""
    removed = await _delete(session, {id_: change.removed for id_, change in told.items()})
    added = await _insert(session, {id_: change.added for id_, change in told.items()})
    return {
        node_id: UnitsChanged(frozenset(added[node_id]), frozenset(removed[node_id]))
        for node_id in added.keys() | removed.keys()
    }


async def nodes_by_unit(
    session: AsyncSession, unit_digests: Collection[str]
) -> dict[str, list[str]]:
    """Who has these units; those that nobody has are missing."""
    if not unit_digests:
        return {}
    wanted = [bytes.fromhex(digest) for digest in unit_digests]
    rows = await session.execute(_NODES_BY_UNIT, {"units": wanted})
    return {row.unit_digest.hex(): row.node_ids for row in rows}


async def units_of(
    session: AsyncSession,
    node_id: str,
    *,
    after: str | None,
    up_to: str | None,
    buckets: Collection[int] | None = None,
    limit: int,
) -> list[str]:
    """What the node has between two digests, in order, of some buckets or of all."""
    digest = HostCacheRow.unit_digest
    query = select(digest).where(HostCacheRow.node_id == node_id).order_by(digest).limit(limit)
    if after is not None:
        query = query.where(digest > bytes.fromhex(after))
    if up_to is not None:
        query = query.where(digest <= bytes.fromhex(up_to))
    if buckets is not None:
        query = query.where(func.get_byte(digest, 0).in_(buckets))
    return [found.hex() for found in await session.scalars(query)]


async def delete_units(session: AsyncSession, node_id: str, limit: int) -> int:
    """Some rows of a node that is to be forgotten; how many."""
    change = UnitsChanged(
        removed=frozenset(await units_of(session, node_id, after=None, up_to=None, limit=limit))
    )
    before = await load_sets(session, [node_id])
    done = (await change_units(session, {node_id: change})).get(node_id, UnitsChanged())
    await write_sets(session, {id_: recorded.changed(done) for id_, recorded in before.items()})
    return len(done.removed)


async def _delete(
    session: AsyncSession, told: Mapping[str, Collection[str]]
) -> defaultdict[str, set[str]]:
    if not any(told.values()):
        return defaultdict(set)
    pairs = _pairs(told)
    rows = await session.execute(
        delete(HostCacheRow)
        .where(
            tuple_(HostCacheRow.node_id, HostCacheRow.unit_digest).in_(
                select(pairs.c.node_id, pairs.c.unit_digest)
            )
        )
        .returning(HostCacheRow.node_id, HostCacheRow.unit_digest)
        .execution_options(synchronize_session=False)
    )
    return _by_node(rows.all())


async def _insert(
    session: AsyncSession, told: Mapping[str, Collection[str]]
) -> defaultdict[str, set[str]]:
    if not any(told.values()):
        return defaultdict(set)
    pairs = _pairs(told)
    rows = await session.execute(
        insert(HostCacheRow)
        .from_select(["node_id", "unit_digest"], select(pairs.c.node_id, pairs.c.unit_digest))
        .on_conflict_do_nothing()
        .returning(HostCacheRow.node_id, HostCacheRow.unit_digest)
    )
    return _by_node(rows.all())


def _pairs(told: Mapping[str, Collection[str]]) -> Any:
    """A table of nodes and units, as two arguments."""
    node_ids = [node_id for node_id, units in told.items() for _ in units]
    digests = [bytes.fromhex(unit) for units in told.values() for unit in units]
    columns = (column("node_id", String), column("unit_digest", LargeBinary))
    pairs = func.unnest(texts(node_ids), _binaries(digests)).table_valued(*columns)
    return pairs.render_derived()


def _by_node(rows: Sequence[Any]) -> defaultdict[str, set[str]]:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row.node_id].add(row.unit_digest.hex())
    return found


def _binaries(values: Sequence[bytes]) -> BindParameter[Any]:
    return literal(list(values), ARRAY(LargeBinary))
