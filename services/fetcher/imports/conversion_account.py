"""Whose process a conversion is: another user's than ours, where we are root."""

import contextlib
import os
import pwd
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.fetcher.imports.source import SourceFile

_NAME = "nobody"
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int

    @property
    def of_subprocess(self) -> dict[str, Any]:
        """Arguments of `subprocess`: no group but its own."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def child_account(programs: Iterable[Path], folder: Path) -> Account | None:
    """For a child that runs `programs` and works in `folder`, which becomes its own.

    None: it stays ours, because we are not root, or because the project lies where only root comes.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(_NAME)
    except KeyError:
        return None
    account = Account(entry.pw_uid, entry.pw_gid)
    if not _can_pass(folder) or not all(map(_can_read, programs)):
        return None
    os.chown(folder, account.uid, account.gid)
    return account


def _can_pass(path: Path) -> bool:
    """Whether those may come to the path who own nothing on the way."""
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)


def _can_read(path: Path) -> bool:
    return _can_pass(path) and bool(path.resolve().stat().st_mode & stat.S_IROTH)


@contextlib.contextmanager
def given_copy(file: SourceFile, folder: Path, account: Account) -> Iterator[int]:
    """A descriptor of a copy that belongs to the account: opening what a descriptor leads to takes
    the right to read it, which the source's owner need not have given. Blocking."""
    path = folder / "given.gguf"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        for start in range(0, file.size_bytes, _PIECE_BYTES):
            piece = file.read(start, min(_PIECE_BYTES, file.size_bytes - start))
            while piece:
                piece = piece[os.write(descriptor, piece) :]
        os.fchown(descriptor, account.uid, account.gid)
        yield descriptor
    finally:
        os.close(descriptor)
        path.unlink(missing_ok=True)
