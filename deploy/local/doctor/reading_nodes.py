"""Reads what the nodes of an embedded stack hold: processes, and unit files in shared memory.

Which processes are the stack's, and where a fetcher has its files, stands in their environments.
"""

import mmap
import os
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from deploy.local.doctor.values import NodeState, UnitFile
from deploy.local.processes.procfs import all_pids, is_running, process_name
from deploy.local.services import MODULES, STATE_VARIABLE
from libs.common.weights.unitheader import (
    CHUNK_STATES_OFFSET,
    ChunkState,
    UnitHeader,
    UnitState,
    Word,
)
from services.worker.frames.process_names import WORKER

_UNIT_NAME = re.compile(r"[0-9a-f]{64}")
_PREFIX = "HYDRA_"
Choose = Callable[[int], int]  # which of so many complete units is hashed


@dataclass(frozen=True)
class ServiceProcess:
    pid: int
    module: str
    environment: Mapping[str, str]

    @property
    def node_id(self) -> str | None:
        return self.environment.get(_PREFIX + "NODE_ID")


def read_nodes(state_folder: Path, choose: Choose = random.randrange) -> tuple[NodeState, ...]:
    """Of the stack that runs from `state_folder`; one complete unit of each node is hashed."""
    table = [(pid, _arguments(pid)) for pid in all_pids()]
    services = [service for pid, said in table for service in _service(pid, said, state_folder)]
    agents = {s.node_id: s.pid for s in services if s.module == MODULES["agent"]}
    folders = {
        s.node_id: Path(s.environment[_PREFIX + "SHM_DIR"])
        for s in services
        if s.module == MODULES["fetcher"]
    }
    return tuple(
        NodeState(
            node_id=node_id,
            agent_pid=agents.get(node_id),
            worker_pids=frozenset(_worker_pids(table, agents.get(node_id))),
            units=read_units(folders[node_id], choose) if node_id in folders else None,
        )
        for node_id in sorted({*agents, *folders} - {None}, key=str)
        if node_id is not None
    )


# ------------------------------------------------------------------ processes


def _service(pid: int, arguments: list[str], state_folder: Path) -> Iterator[ServiceProcess]:
    """Itself, if it is one of our modules, started for this state folder."""
    if arguments[1:2] != ["-m"] or arguments[2:3] == [] or arguments[2] not in MODULES.values():
        return
    environment = _environment(pid)
    if environment.get(STATE_VARIABLE) == str(state_folder) and is_running(pid):
        yield ServiceProcess(pid, arguments[2], environment)


def _worker_pids(table: list[tuple[int, list[str]]], agent_pid: int | None) -> Iterator[int]:
    """A worker's last argument is its agent; it is named once it is more than a standby."""
    for pid, arguments in table:
        if agent_pid is not None and arguments[-1:] == [str(agent_pid)]:
            if process_name(pid) == WORKER and is_running(pid):
                yield pid


def _arguments(pid: int) -> list[str]:
    return _strings(Path(f"/proc/{pid}/cmdline"))


def _environment(pid: int) -> dict[str, str]:
    entries = (entry.partition("=") for entry in _strings(Path(f"/proc/{pid}/environ")))
    return {name: value for name, _, value in entries}


def _strings(path: Path) -> list[str]:
    """Empty where the process is gone, or another user's."""
    with suppress(OSError):
        return path.read_bytes().decode(errors="replace").split("\0")[:-1]
    return []


# ----------------------------------------------------------------- unit files


def read_units(folder: Path, choose: Choose) -> tuple[UnitFile, ...]:
    """Of those that are still there when they are opened."""
    found = [unit for path in _unit_paths(folder) if (unit := read_unit(path)) is not None]
    complete = [index for index, unit in enumerate(found) if unit.is_complete]
    if complete:
        index = complete[choose(len(complete))]
        hashed = read_unit(folder / found[index].digest, is_hashed=True)
        found[index] = found[index] if hashed is None else hashed
    return tuple(found)


def _unit_paths(folder: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return sorted(path for path in folder.iterdir() if _UNIT_NAME.fullmatch(path.name))
    return []


def read_unit(path: Path, *, is_hashed: bool = False) -> UnitFile | None:
    """None when it has just been evicted."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes < CHUNK_STATES_OFFSET:
            return UnitFile(path.name, "it is too short for a unit file")
        mapping = mmap.mmap(descriptor, size_bytes, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)
    return _describe(path.name, memoryview(mapping), is_hashed=is_hashed)


def _describe(digest: str, mapping: memoryview, *, is_hashed: bool) -> UnitFile:
    header = UnitHeader(mapping)
    fault = header.fault(len(mapping))
    if fault is None and header.digest != digest:
        fault = f"it holds unit {header.digest}"
    if fault is not None:
        return UnitFile(digest, fault)
    # The writer marks a chunk first and counts it afterwards: read the other way round.
    is_complete = header.state is UnitState.COMPLETE
    verified_bytes = header[Word.VERIFIED_BYTES]
    data = mapping[header[Word.HEADER_BYTES] :]
    return UnitFile(
        digest=digest,
        fault=None,
        is_complete=is_complete,
        size_bytes=header[Word.SIZE_BYTES],
        verified_bytes=verified_bytes,
        verified_prefix_bytes=_verified_prefix_bytes(header),
        computed_digest=blake3(data).hexdigest() if is_hashed and is_complete else None,
    )


def _verified_prefix_bytes(header: UnitHeader) -> int:
    states = bytes(header.chunk_states)
    num_verified = len(states) - len(states.lstrip(bytes([ChunkState.VERIFIED])))
    return min(num_verified * header[Word.CHUNK_SIZE_BYTES], header[Word.SIZE_BYTES])
