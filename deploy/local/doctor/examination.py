"""Looks at a stack until what it finds is lawful, or has stayed unlawful for too long.

Most promises hold soon after a change, not in the middle of it: a process is there before its row
says so. What is broken in every look until the deadline is broken; what may never be is so at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deploy.local.doctor.checks import find_broken
from deploy.local.doctor.promises import Broken, Promise
from deploy.local.doctor.reading_nodes import read_nodes
from deploy.local.doctor.reading_records import read_records
from deploy.local.doctor.values import StackState
from deploy.local.state.shared_folder import abandoned_folders
from deploy.local.state.state_folder import StateFolder
from libs.common.records.database import Database

TIMEOUT_S = 20.0  # a gateway or a node counts as lost after ten
_POLL_S = 0.1

_ONLY_TESTED = "what no row or file shows, as the tokens of an answer; the page names the tests"

Look = Callable[[], Awaitable[StackState]]


@dataclass(frozen=True)
class Examination:
    state: StackState  # as it was seen last
    broken: tuple[Broken, ...]

    @property
    def unchecked(self) -> tuple[str, ...]:
        """What could not be looked at from here, in words."""
        seen = {node.node_id: node for node in self.state.nodes}
        blind = sorted(
            record.id
            for record in self.state.records.nodes
            if record.id not in seen or seen[record.id].units is None
        )
        nodes = (f"{node_id}: none of its processes runs here" for node_id in blind)
        return (*nodes, _ONLY_TESTED)


async def examine(look: Look, *, timeout_s: float = TIMEOUT_S) -> Examination:
    """Raises what `look` raises."""
    deadline_s = time.monotonic() + timeout_s
    lasting: set[tuple[Promise, str]] | None = None
    while True:
        state = await look()
        broken = find_broken(state)
        always = tuple(found for found in broken if found.is_always)
        keys = {(found.promise, found.subject) for found in broken}
        lasting = keys if lasting is None else lasting & keys
        if always or not broken:
            return Examination(state, always or broken)
        if time.monotonic() > deadline_s:
            stayed = (found for found in broken if (found.promise, found.subject) in lasting)
            return Examination(state, tuple(stayed))
        await asyncio.sleep(_POLL_S)


async def look_at(
    folder: StateFolder, database: Database, *, is_whole_machine: bool = False
) -> StackState:
    """A stack of this machine. With `is_whole_machine` also at what dead stacks have left on it.

    Raises DatabaseUnavailable.
    """
    records = await read_records(database)
    nodes = await asyncio.to_thread(read_nodes, folder.path)
    abandoned = abandoned_folders() if is_whole_machine else []
    return StackState(records, nodes, tuple(map(str, abandoned)))
