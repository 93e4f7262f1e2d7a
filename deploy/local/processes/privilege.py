"""Running a child as an unprivileged account, for Postgres, which refuses to run as root.

The project may lie under a folder that only root can enter (a home, a temporary folder), with
both the binaries and the data in it. Then the child keeps one capability, to pass folders and read
files that its account could not, instead of the data living somewhere else than the state.
"""

import ctypes
import os
import pwd
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import PrivilegeError

_CANDIDATES = ("nobody", "daemon")
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_CAP_SETPCAP = 8
_PR_SET_SECUREBITS = 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Account:
    """Whom a child becomes, and the one capability (its number) that it keeps, if any."""

    uid: int
    gid: int
    kept_capability: int | None = None

    def assume(self) -> None:
        """Becomes this account for good. Runs between fork and exec."""
        if self.kept_capability is not None:
            # Otherwise a change of account drops capabilities, and `access`, by which Postgres
            # looks for its own programs, takes no notice of those that were kept.
            _check(_libc.prctl(_PR_SET_SECUREBITS, _SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
        os.setgroups([])
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        if self.kept_capability is not None:
            _keep_over_exec(self.kept_capability)


def unprivileged_account(paths: Iterable[Path]) -> Account | None:
    """The account for a child that must reach all of `paths`; None when we are not root.

    Raises PrivilegeError when this machine has no such account or no such capability.
    """
    if os.geteuid() != 0:
        _require_password_entry(os.geteuid())
        return None
    entry = _password_entry()
    folders = {parent for path in paths for parent in path.resolve().parents}
    if all(can_pass(folder, entry.pw_uid) for folder in folders):
        return Account(entry.pw_uid, entry.pw_gid)
    return Account(entry.pw_uid, entry.pw_gid, _available_capability())


def _require_password_entry(uid: int) -> None:
    """Postgres asks for its user's name, which containers with made-up user ids do not have."""
    try:
        pwd.getpwuid(uid)
    except KeyError as exc:
        raise PrivilegeError(f"Postgres needs a user name, and user id {uid} has none") from exc


def _password_entry() -> pwd.struct_passwd:
    for name in _CANDIDATES:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PrivilegeError(f"Postgres does not run as root, and there is no user {_CANDIDATES}")


def can_pass(folder: Path, uid: int) -> bool:
    """Whether uid, who shares no group with the owner, may reach what lies in `folder`."""
    status = folder.stat()
    return bool(status.st_mode & (stat.S_IXUSR if status.st_uid == uid else stat.S_IXOTH))


def _available_capability() -> int:
    """The narrower of the two capabilities that pass closed folders, of those that we hold."""
    status = Path("/proc/self/status").read_text()
    permitted = int(status.partition("CapPrm:")[2].split()[0], 16)
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if permitted >> capability & permitted >> _CAP_SETPCAP & 1:
            return capability
    raise PrivilegeError("an unprivileged user cannot reach the project's folder; run as that user")


def _keep_over_exec(capability: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    mask = 1 << capability
    # Effective, permitted, inheritable; first the low 32 capabilities, then the high ones.
    sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
    _check(_libc.capset(header, sets))
    _check(_libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
