"""Weights and caps by cgroups (version 2), where the agent may make some.

    <the agent's own cgroup>/hydra-<node>/hydra.agent    the agent, its standbys, what it launches
                                         /<worker id>    one each

A cgroup that hands out its processors to others may hold no process itself, so the agent moves
into one of its own first. That fails where other processes live beside it, and then nothing has
changed.
"""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from services.worker.agent.shares.cpu_shares import CpuShare
from services.worker.errors import CgroupUnavailable

logger = logging.getLogger(__name__)

ROOT = Path("/sys/fs/cgroup")
MAX_WEIGHT = 10_000  # of cpu.weight, whose least is 1
PERIOD_US = 100_000  # of cpu.max, the kernel's own
MIN_QUOTA_US = 1_000  # the kernel takes no less
AGENT_FOLDER = "hydra.agent"  # no worker's id has a point

RemoveFolder = Callable[[Path], None]


class CgroupShares:
    def __init__(self, folder: Path, *, are_caps: bool, remove: RemoveFolder = os.rmdir) -> None:
        """`folder` is the node's, from `open_cgroup`."""
        self._folder, self._are_caps, self._remove = folder, are_caps, remove
        self._written: dict[str, CpuShare] = {}
        self._joined: set[str] = set()  # workers whose process was moved, or has ended
        self._told: set[str] = set()  # that something failed: once in the log is enough

    def apply(self, shares: Sequence[CpuShare]) -> None:
        """In the thread that reaps the workers, so that no id is another process's by then. The
        kernel takes some milliseconds to move one. What fails is tried again the next time."""
        known = self._written.keys() | self._told
        for worker_id in known - {share.worker_id for share in shares}:
            self._close(worker_id)
        for share in shares:
            has_joined = share.worker_id in self._joined
            if not has_joined or self._written.get(share.worker_id) != share:
                self._put(share)

    def _put(self, share: CpuShare) -> None:
        worker_id, folder = share.worker_id, self._folder / share.worker_id
        try:
            folder.mkdir(exist_ok=True)
            (folder / "cpu.weight").write_text(str(cpu_weight(share.weight)))
            if self._are_caps:
                (folder / "cpu.max").write_text(cpu_max(share.cap_cores))
            self._written[worker_id] = share
            if worker_id not in self._joined:
                (folder / "cgroup.procs").write_text(str(share.pid))
                self._joined.add(worker_id)
        except ProcessLookupError:
            self._joined.add(worker_id)
            logger.debug("%s ended before it had its cgroup", worker_id)
        except OSError as exc:
            if worker_id not in self._told:
                logger.error("%s has no share of the processor: %s", worker_id, exc)
            self._told.add(worker_id)

    def _close(self, worker_id: str) -> None:
        """Again the next time while a process is left in it."""
        try:
            self._remove(self._folder / worker_id)
        except FileNotFoundError:
            pass
        except OSError:
            return
        self._written.pop(worker_id, None)
        self._joined.discard(worker_id)
        self._told.discard(worker_id)


def cpu_weight(weight: float) -> int:
    """As cpu.weight wants it: 1 to 10,000."""
    return max(1, min(MAX_WEIGHT, round(weight * MAX_WEIGHT)))


def cpu_max(cores: float) -> str:
    """As cpu.max wants it: microseconds of processor time in each period."""
    return f"{max(MIN_QUOTA_US, round(cores * PERIOD_US))} {PERIOD_US}"


def own_cgroup(membership: str, root: Path) -> Path:
    """Where this process's cgroup lies, from /proc/self/cgroup. Raises CgroupUnavailable."""
    paths = [line[len("0::") :] for line in membership.splitlines() if line.startswith("0::")]
    if not paths:
        raise CgroupUnavailable("this machine has no cgroups of version 2")
    folder = root / paths[0].lstrip("/")
    try:
        controllers = (folder / "cgroup.controllers").read_text().split()
    except OSError as exc:
        raise CgroupUnavailable(f"there is no cgroup of version 2 at {folder}") from exc
    if "cpu" not in controllers:
        raise CgroupUnavailable(f"{folder} has no cpu controller")
    return folder


def open_cgroup(own: Path, node_id: str, remove: RemoveFolder = os.rmdir) -> Path:
    """The node's folder below the agent's own, with the agent moved into it.

    Raises CgroupUnavailable; then this process is where it was.
    """
    node = own / f"hydra-{node_id}"
    leaf = node / AGENT_FOLDER
    try:
        leaf.mkdir(parents=True, exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
        for folder in (own, node):
            (folder / "cgroup.subtree_control").write_text("+cpu")
        (leaf / "cpu.weight").write_text(str(MAX_WEIGHT))
    except OSError as exc:
        _go_back(own, node, remove)
        raise CgroupUnavailable(f"no cgroup can be made below {own}: {exc}") from exc
    _sweep(node, remove)
    return node


def _go_back(own: Path, node: Path, remove: RemoveFolder) -> None:
    """As long as a cgroup hands out its processors no process can move back into it, and it does
    as long as one below it does."""
    for folder in (node, own):
        with suppress(OSError):
            (folder / "cgroup.subtree_control").write_text("-cpu")
    with suppress(OSError):
        (own / "cgroup.procs").write_text(str(os.getpid()))
        remove(node / AGENT_FOLDER)
        remove(node)


def _sweep(node: Path, remove: RemoveFolder) -> None:
    """Remove what workers of an earlier agent have left."""
    for folder in node.iterdir():
        if folder.is_dir() and folder.name != AGENT_FOLDER:
            with suppress(OSError):
                remove(folder)
