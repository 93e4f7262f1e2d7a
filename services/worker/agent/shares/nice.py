"""Weights by nice values, which need no cgroup and no privilege.

Two things have one. A thread has, and the group of all threads of a process gets the same here. A
session has, where the kernel groups processes by session (`autogroup`): each worker leads one, the
kernel then shares cores between sessions first, and threads' own values count inside one only. So
both are set, and one of them takes effect.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.worker.agent.shares.cpu_shares import CpuShare
from services.worker.agent.shares.nice_values import process_nice, relative_nice

logger = logging.getLogger(__name__)

SetNice = Callable[[int, int], None]  # (process id, nice value); raises OSError


def set_group_nice(pid: int, nice: int) -> None:
    """Of all threads of the process group that it leads; what they start inherits it."""
    os.setpriority(os.PRIO_PGRP, pid, nice)


def set_session_nice(pid: int, nice: int) -> None:
    """Of the session that it leads. From 0 on anybody may raise and lower it, ten times a second.

    Raises FileNotFoundError where the kernel knows no such thing.
    """
    Path(f"/proc/{pid}/autogroup").write_text(str(nice))


class NiceShares:
    def __init__(
        self,
        set_group: SetNice = set_group_nice,
        set_session: SetNice = set_session_nice,
        own_nice: int | None = None,
    ) -> None:
        own = os.getpriority(os.PRIO_PROCESS, 0) if own_nice is None else own_nice
        self._groups, self._own_nice = _NiceValues(set_group, own), own
        self._sessions = _NiceValues(set_session, 0)
        self._can_lower = True

    def apply(self, shares: Sequence[CpuShare]) -> None:
        relative = relative_nice({share.worker_id: share.weight for share in shares})
        self._sessions.set(shares, relative)
        if not self._groups.set(shares, self._group_values(relative)) and self._can_lower:
            self._can_lower = False
            logger.info("nice values cannot be lowered again here, so others are raised")
            self._groups.set(shares, self._group_values(relative))

    def _group_values(self, relative: Mapping[str, int]) -> dict[str, int]:
        current = self._groups.current
        return process_nice(relative, current, self._own_nice, can_lower=self._can_lower)


class _NiceValues:
    """Of one kind, as they were set."""

    def __init__(self, set_nice: SetNice, default: int) -> None:
        self.current: dict[str, int] = {}
        self._set_nice, self._default = set_nice, default

    def set(self, shares: Sequence[CpuShare], wanted: Mapping[str, int]) -> bool:
        """False when the permission is missing for one of them."""
        self.current = {i: self.current.get(i, self._default) for i in wanted}
        return all([self._set(share, wanted[share.worker_id]) for share in shares])

    def _set(self, share: CpuShare, nice: int) -> bool:
        if self.current[share.worker_id] == nice:
            return True
        try:
            self._set_nice(share.pid, nice)
        except PermissionError:
            return False
        except BlockingIOError:  # too many a second: the next call does it
            return True
        except OSError as exc:  # it has ended, or this kernel has no such thing
            logger.debug("no nice value %d for %s: %s", nice, share.worker_id, exc)
        self.current[share.worker_id] = nice
        return True
