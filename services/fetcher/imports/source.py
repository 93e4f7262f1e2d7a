"""Opening what a user names, and nothing else: beneath an allowed root, never through a link.

Every folder on the way is opened by name relative to the one before, with O_NOFOLLOW, so neither
a symlink nor a rename while we walk can lead outside. A file is opened once; all that is parsed,
hashed and uploaded comes from that descriptor.

Nobody keeps others from writing to a file meanwhile, so it has a version, taken before its first
byte is read: whoever has read asks whether it is still that one.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from services.fetcher.errors import ImportRefused

_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: opening a FIFO must not wait for its other end.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
# Linux keeps the times of files in ticks of at most 10 ms: within one, a change does not show.
_TIME_STEP_S = 0.02


@dataclass(frozen=True)
class FileVersion:
    """What differs once a file was written to, or its name leads to another one.

    Anybody may set `mtime_ns`, nobody may set `ctime_ns`.
    """

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> "FileVersion":
        return cls(
            device=status.st_dev,
            inode=status.st_ino,
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
        )


@dataclass(frozen=True)
class SourceFile:
    """An open regular file. Its version is taken once, when it is opened."""

    name: str
    descriptor: int
    folder: int  # the descriptor of the folder that has its name
    version: FileVersion

    @property
    def size_bytes(self) -> int:
        return self.version.size_bytes

    def require_unchanged(self) -> None:
        """What was read is one version of the file. Raises ImportRefused."""
        if FileVersion.of(os.fstat(self.descriptor)) != self.version:
            raise _changed(self.name)
        try:
            named = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except OSError as exc:
            raise _changed(self.name) from exc
        if FileVersion.of(named) != self.version:
            raise _changed(self.name)

    def read(self, offset: int, nbytes: int) -> bytes:
        """Exactly so many bytes. Raises ImportRefused when the file shrank or cannot be read."""
        pieces: list[bytes] = []
        while nbytes > 0:
            piece = self._pread(offset, nbytes)
            if not piece:
                raise _changed(self.name, "became shorter")
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

    def require_unchanged(self) -> None:
        """All that was opened is as it was then. Raises ImportRefused naming a file that is not."""
        for file in self._files.values():
            file.require_unchanged()

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
    return SourceFile(name, descriptor, folder, _settled_version(descriptor))


def _settled_version(descriptor: int) -> FileVersion:
    """One that no later change can have again: the file's last change is some milliseconds ago."""
    version = FileVersion.of(os.fstat(descriptor))
    age_s = time.time() - version.ctime_ns / 1e9
    if 0 <= age_s < _TIME_STEP_S:
        time.sleep(_TIME_STEP_S - age_s)
        version = FileVersion.of(os.fstat(descriptor))
    return version


def _changed(name: str, how: str = "was changed") -> ImportRefused:
    return ImportRefused(
        "source_changed",
        f"{name} {how} while it was imported; register the model again when nobody writes "
        "to its files any more",
    )


def _refusal(name: str, exc: OSError) -> ImportRefused:
    if exc.errno == errno.ENOENT:
        return ImportRefused("source_missing", f"{name} does not exist")
    if exc.errno in (errno.ELOOP, errno.EMLINK):
        return ImportRefused("source_is_link", f"{name} is a symbolic link; links are not followed")
    if exc.errno == errno.ENOTDIR:
        return ImportRefused("source_not_folder", f"{name} is not a folder (or is a link)")
    return ImportRefused("source_unreadable", f"{name}: {exc.strerror}")
