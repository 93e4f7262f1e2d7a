"""Our S3 server: nanio behind uvicorn, with a key pair per service and one bucket."""

import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path

from minio.error import MinioException
from urllib3.exceptions import HTTPError

from deploy.bootstrap.bucket import StoreAdministrator, make_bucket
from deploy.bootstrap.names import REGION
from deploy.local.processes.environment import base_environment
from deploy.local.processes.process import ChildProcess, ProcessSpec
from deploy.local.processes.readiness import wait_until_ready
from deploy.local.servers.s3_app import READ_ONLY_KEYS_VARIABLE
from deploy.local.state.ports import LOOPBACK

_READY_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class S3Key:
    """Either may do everything or, with `is_read_only`, read objects and lists."""

    access_key: str
    secret_key: str = field(repr=False)
    is_read_only: bool = False


@dataclass(frozen=True)
class S3Options:
    """`keys` begins with the administrator's, which makes the bucket."""

    folder: Path
    log_path: Path
    port: int
    keys: tuple[S3Key, ...]
    bucket: str
    num_processes: int = 1  # one serves about 1 GB/s


class S3Server:
    def __init__(self, options: S3Options) -> None:
        self.options = options
        self.endpoint = f"http://{LOOPBACK}:{options.port}"

    def prepare(self) -> None:
        """Makes the data folder and writes the users' file, which only its owner may read."""
        self.options.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._data_folder.mkdir(exist_ok=True)
        descriptor = os.open(self._users_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w") as file:
            for key in self.options.keys:
                file.write(f'[[users]]\naccess_key = "{key.access_key}"\n')
                file.write(f'secret_key = "{key.secret_key}"\n')

    @property
    def spec(self) -> ProcessSpec:
        factory = "deploy.local.servers.s3_app:build_app"
        listen = ("--host", LOOPBACK, "--port", str(self.options.port))
        quiet = ("--no-access-log", "--log-level", "warning")
        number = self.options.num_processes
        processes = ("--workers", str(number)) if number > 1 else ()
        return ProcessSpec(
            name="s3",
            argv=(
                sys.executable,
                "-m",
                "uvicorn",
                "--factory",
                factory,
                *listen,
                *quiet,
                *processes,
            ),
            env=base_environment() | self._variables,
            cwd=Path(__file__).parents[3],
            log_path=self.options.log_path,
        )

    async def is_ready(self) -> bool:
        """Asks with the administrator's key, and makes the bucket."""
        return await asyncio.to_thread(self._try_make_bucket)

    async def start(self) -> ChildProcess:
        """A running, ready server. Raises StartFailed."""
        self.prepare()
        child = ChildProcess(self.spec)
        await wait_until_ready(child, self.is_ready, _READY_TIMEOUT_S)
        return child

    def make_bucket(self, name: str) -> None:
        """Does nothing when it exists. Raises MinioException or urllib3's HTTPError."""
        key = self.options.keys[0]
        make_bucket(StoreAdministrator(self.endpoint, key.access_key, key.secret_key), name)

    def _try_make_bucket(self) -> bool:
        try:
            self.make_bucket(self.options.bucket)
        except (MinioException, HTTPError):
            return False
        return True

    @property
    def _variables(self) -> dict[str, str]:
        read_only = [key.access_key for key in self.options.keys if key.is_read_only]
        return {
            "NANIO_DATA_DIR": str(self._data_folder),
            "NANIO_OPTIONS_FILE": str(self._users_path),
            "NANIO_REGION": REGION,
            READ_ONLY_KEYS_VARIABLE: ",".join(read_only),
        }

    @property
    def _data_folder(self) -> Path:
        return self.options.folder / "data"

    @property
    def _users_path(self) -> Path:
        return self.options.folder / "users.toml"
