"""One unit file of the host cache, and what its absence would cost."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from libs.common.weights.unitheader import UnitState
from libs.common.weights.unitwriter import UnitWriter
from services.fetcher.hostcache.eviction import Candidate, RefetchCost
from services.fetcher.hostcache.unit_scan import inspect_unit_file

_UNIT_NAME = re.compile(r"[0-9a-f]{64}")


@dataclass
class CachedUnit:
    digest: str
    path: Path
    file_bytes: int
    last_used_s: float  # wall clock; kept as the file's mtime, so that it survives us
    is_complete: bool  # as it was found or released; while there is a writer, that one knows
    is_checked: bool  # hashed or written by this process
    writer: UnitWriter | None = None
    num_uses: int = 1  # fetches that wanted it; an earlier process's count as one
    age: float = 0.0  # of the cache at the last use
    is_checking: bool = False  # a thread hashes it: it stays
    is_leaving: bool = False  # a thread removes it: nobody is given it any more

    @classmethod
    def found(cls, path: Path) -> "CachedUnit | None":
        """What an earlier fetcher left, looked at but not hashed; None if it is no unit file."""
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or not _UNIT_NAME.fullmatch(path.name):
            return None
        state = inspect_unit_file(path, path.name)
        if state is None:
            return None
        return cls(
            digest=path.name,
            path=path,
            file_bytes=status.st_size,
            last_used_s=status.st_mtime,
            is_complete=state is UnitState.COMPLETE,
            is_checked=False,
        )

    @property
    def has_all(self) -> bool:
        return self.is_complete if self.writer is None else self.writer.is_complete

    @property
    def has_failed(self) -> bool:
        """Under the writer that it has."""
        return self.writer is not None and self.writer.state is UnitState.FAILED

    def touch(self, age: float) -> None:
        """It is used, now and at this age of the cache."""
        os.utime(self.path)
        self.last_used_s, self.age = self.path.stat().st_mtime, age

    def candidate(self, cost: RefetchCost) -> Candidate:
        return Candidate(
            digest=self.digest,
            file_bytes=self.file_bytes,
            refetch_s=cost.seconds(self._held_bytes),
            num_uses=self.num_uses,
            age=self.age,
            last_used_s=self.last_used_s,
        )

    @property
    def _held_bytes(self) -> int:
        """What would have to be fetched again; of a file nobody opened yet, at most."""
        writer = self.writer
        return self.file_bytes if writer is None or writer.is_complete else writer.verified_bytes
