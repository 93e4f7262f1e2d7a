"""Small files on disk, named by their digests, within a number of bytes.

So a cached one is never stale; one that does not match its own name (a half-written file, a flipped
bit) counts as absent. Several gateways may share a folder.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from libs.common.ids import new_id


@dataclass(frozen=True)
class TokenizerFolder:
    """Those read longest ago go first. Every method blocks, and raises OSError."""

    path: Path
    max_bytes: int

    def read(self, digest: str) -> bytes | None:
        file = self.path / digest
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            return None
        if blake3(data).hexdigest() != digest:
            return None
        with suppress(OSError):  # a disk that takes no writes has all that it will ever have
            os.utime(file)
        return data

    def write(self, digest: str, data: bytes) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        temporary = self.path / new_id("part")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, self.path / digest)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        self._make_room(digest)

    def _make_room(self, kept: str) -> None:
        """A new file is rare enough to look at all of them."""
        found = [(entry, entry.stat()) for entry in os.scandir(self.path) if entry.name != kept]
        excess_bytes = (self.path / kept).stat().st_size - self.max_bytes
        excess_bytes += sum(stat.st_size for _, stat in found)
        for entry, stat in sorted(found, key=lambda item: item[1].st_mtime_ns):
            if excess_bytes <= 0:
                return
            Path(entry).unlink(missing_ok=True)
            excess_bytes -= stat.st_size
