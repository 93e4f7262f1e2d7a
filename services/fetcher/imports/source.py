"""Opening what a user names, and nothing else: beneath an allowed root, never through a link.

Every folder on the way is opened by name relative to the one before, with O_NOFOLLOW, so neither
a symlink nor a rename while we walk can lead outside. A file is opened once; all that is parsed,
hashed and uploaded comes from that descriptor.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from services.fetcher.errors import ImportRefused

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO must not wait for its other end.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True)
class SourceFile:
    """An open regular file. Its size is taken once, when it is opened."""

    name: str
    descriptor: int
    size_bytes: int

    def read(self, offset: int, nbytes: int) -> bytes:
        """Exactly so many bytes. Raises ImportRefused when the file shrank or cannot be read."""
        pieces: list[bytes] = []
        while nbytes > 0:
            piece = self._pread(offset, nbytes)
            if not piece:
                raise ImportRefused(
                    "source_changed", f"{self.name} became shorter while it was imported"
                )
            pieces.append(piece)
            offset, nbytes = offset + len(piece), nbytes - len(piece)
        return b"".join(pieces)

    def read_small(self, max_bytes: int) -> bytes:
        if self.size_bytes > max_bytes:
            raise ImportRefused(
                "file_too_large",
                f"{self.name} has {self.size_bytes} bytes, the limit is {max_bytes}",
            )
        return self.read(0, self.size_bytes)

    def _pread(self, offset: int, nbytes: int) -> bytes:
        try:
            return os.pread(self.descriptor, nbytes, offset)
        except OSError as exc:
            raise ImportRefused("source_unreadable", f"{self.name}: {exc.strerror}") from exc


class SourceFolder:
    """An open folder; files in it are opened by plain name and stay open until `close`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._files: dict[str, SourceFile] = {}

    def open(self, name: str) -> SourceFile:
        """Raises ImportRefused: no plain name, a link, not a regular file, missing."""
        if PurePosixPath(name).name != name or name in ("", ".", "..") or "\0" in name:
            raise ImportRefused(
                "path_outside_source", f"{name!r} is not the name of a file in the model's folder"
            )
        if name not in self._files:
            self._files[name] = _open_file(name, self._descriptor)
        return self._files[name]

    def open_if_present(self, name: str) -> SourceFile | None:
        try:
            return self.open(name)
        except ImportRefused as exc:
            if exc.code == "source_missing":
                return None
            raise

    def close(self) -> None:
        for file in self._files.values():
            os.close(file.descriptor)
        self._files.clear()
        os.close(self._descriptor)


@contextlib.contextmanager
def opened_folder(source: Path, roots: Sequence[Path]) -> Iterator[SourceFolder]:
    """The folder `source`. Raises ImportRefused."""
    folder = SourceFolder(_walk(*_split(source, roots)))
    try:
        yield folder
    finally:
        folder.close()


@contextlib.contextmanager
def opened_file(source: Path, roots: Sequence[Path]) -> Iterator[SourceFile]:
    """The single file `source`. Raises ImportRefused."""
    root, parts = _split(source, roots)
    if not parts:
        raise ImportRefused("source_missing", f"{source} is a folder")
    folder = SourceFolder(_walk(root, parts[:-1]))
    try:
        yield folder.open(parts[-1])
    finally:
        folder.close()


def _split(source: Path, roots: Sequence[Path]) -> tuple[Path, tuple[str, ...]]:
    """The allowed root that `source` lies beneath, and the names below it."""
    if source.is_absolute() and ".." not in source.parts and "\0" not in str(source):
        for root in roots:
            if source.is_relative_to(root):
                return root, source.relative_to(root).parts
    allowed = ", ".join(map(str, roots)) or "none is configured"
    raise ImportRefused(
        "source_outside_roots",
        f"{source} does not lie beneath a folder that models may come from ({allowed}); "
        "move it there or allow its folder",
    )


def _walk(root: Path, parts: Sequence[str]) -> int:
    """A descriptor of the folder `parts` beneath `root`. The root itself is trusted."""
    try:
        current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise _refusal(str(root), exc) from exc
    for part in parts:
        try:
            following = os.open(part, _FOLDER_FLAGS, dir_fd=current)
        except OSError as exc:
            raise _refusal(part, exc) from exc
        finally:
            os.close(current)
        current = following
    return current


def _open_file(name: str, folder: int) -> SourceFile:
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
    except OSError as exc:
        raise _refusal(name, exc) from exc
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise ImportRefused("not_a_file", f"{name} is not a regular file")
    return SourceFile(name, descriptor, found.st_size)


def _refusal(name: str, exc: OSError) -> ImportRefused:
    if exc.errno == errno.ENOENT:
        return ImportRefused("source_missing", f"{name} does not exist")
    if exc.errno in (errno.ELOOP, errno.EMLINK):
        return ImportRefused("source_is_link", f"{name} is a symbolic link; links are not followed")
    if exc.errno == errno.ENOTDIR:
        return ImportRefused("source_not_folder", f"{name} is not a folder (or is a link)")
    return ImportRefused("source_unreadable", f"{name}: {exc.strerror}")
