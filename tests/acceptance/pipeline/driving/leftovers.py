"""What a stack that nobody uses must not hold: processes, reserved memory, open rows, leases."""

import fcntl
from dataclasses import dataclass, fields
from pathlib import Path

from sqlalchemy import text

from deploy.local.stack import LocalStack
from libs.common.records.database import Database
from libs.common.settings import Environment
from services.fetcher.hostcache.warm_pages import NAME_PREFIX
from services.fetcher.settings import FetcherSettings
from tests.acceptance.client import Client
from tests.acceptance.observing import nodes, worker_pids
from tests.support.waiting import eventually

_FINISHED = "('STOPPED', 'FAILED')"
_OPEN_ROWS = {
    "requests": "SELECT id || ' ' || state FROM requests WHERE state <> 'ENDED'",
    "endpoints": f"SELECT id || ' ' || state FROM endpoints WHERE state NOT IN {_FINISHED}",
    "workers": "SELECT id || ' ' || state FROM workers WHERE ended_at IS NULL OR is_desired",
    "reservations": "SELECT worker_id FROM reservations",
    "cold_starts": "SELECT id FROM cold_starts WHERE ended_at IS NULL",
}


@dataclass(frozen=True)
class Leftovers:
    processes: tuple[int, ...]  # worker processes
    rows: tuple[str, ...]  # open ones, each with its table
    leases: tuple[str, ...]  # unit files that somebody still holds
    unknown_bytes: tuple[str, ...]  # nodes whose shared memory is not what their fetcher says
    warm_bytes: tuple[str, ...]  # fetchers that keep more pages for units to come than they may

    @property
    def are_none(self) -> bool:
        return not any(getattr(self, field.name) for field in fields(self))


async def nothing_left(stack: LocalStack, client: Client, *, timeout_s: float = 60) -> None:
    """Waits for it; fails with what is left."""
    database = Database.open(stack.servers.database_settings("scheduler"))
    found: list[Leftovers] = []

    async def is_clean() -> bool:
        found.append(await leftovers(stack, client, database))
        return found[-1].are_none

    try:
        await eventually(is_clean, timeout_s=timeout_s, poll_s=0.2, what="an empty stack")
    except AssertionError as exc:
        raise AssertionError(f"left behind after {timeout_s:g} s: {found[-1]}") from exc
    finally:
        await database.close()


async def leftovers(stack: LocalStack, client: Client, database: Database) -> Leftovers:
    return Leftovers(
        processes=tuple(sorted(worker_pids(stack))),
        rows=await _open_rows(database),
        leases=tuple(str(path) for path in _unit_files(stack) if _is_leased(path)),
        unknown_bytes=await _unknown_bytes(stack, client),
        warm_bytes=_excess_warm_bytes(stack),
    )


async def _open_rows(database: Database) -> tuple[str, ...]:
    found = []
    async with database.transaction() as session:
        for table, query in _OPEN_ROWS.items():
            found += [f"{table} {value}" for value in await session.scalars(text(query))]
    return tuple(found)


def _settings(stack: LocalStack, node_id: str) -> FetcherSettings:
    return FetcherSettings.read(Environment(stack.processes[f"fetcher-{node_id}"].spec.env))


def _node_files(stack: LocalStack, node_id: str, *, are_warm: bool = False) -> list[Path]:
    """Of units; or the pages that a fetcher keeps for units to come."""
    paths = sorted(_settings(stack, node_id).shm_dir.iterdir())
    files = [path for path in paths if path.is_file()]
    return [path for path in files if path.name.startswith(NAME_PREFIX) == are_warm]


def _excess_warm_bytes(stack: LocalStack) -> tuple[str, ...]:
    found = []
    for node in stack.options.nodes:
        limit_bytes = _settings(stack, node.node_id).warm_bytes
        size_bytes = sum(map(_size_bytes, _node_files(stack, node.node_id, are_warm=True)))
        if size_bytes > limit_bytes:
            found.append(f"{node.node_id}: {size_bytes} bytes of at most {limit_bytes}")
    return tuple(found)


def _size_bytes(path: Path) -> int:
    """Of what its fetcher may give up, or make a unit of, at any time."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _unit_files(stack: LocalStack) -> list[Path]:
    return [path for node in stack.options.nodes for path in _node_files(stack, node.node_id)]


def _is_leased(path: Path) -> bool:
    """A worker's lease is a shared lock that ends with the worker."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


async def _unknown_bytes(stack: LocalStack, client: Client) -> tuple[str, ...]:
    """Host caches keep units on purpose; what is there must be what their fetchers know of."""
    told = {node["id"]: node["cache_used_bytes"] for node in await nodes(client)}
    there = {
        node_id: sum(path.stat().st_size for path in _node_files(stack, node_id))
        for node_id in told
    }
    return tuple(
        f"{node_id}: {there[node_id]} bytes, {told[node_id]} known"
        for node_id in told
        if there[node_id] != told[node_id]
    )
