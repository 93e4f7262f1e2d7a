"""What the file system of the host cache can hold; other nodes of a machine may share it."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MemorySpace:
    size_bytes: int
    free_bytes: int


def space_of(folder: Path) -> MemorySpace:
    """A tmpfs without a limit has no blocks: whatever memory there is, is free."""
    found = os.statvfs(folder)
    if found.f_blocks == 0:
        return MemorySpace(sys.maxsize, sys.maxsize)
    return MemorySpace(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)
