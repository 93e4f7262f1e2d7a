"""The one folder that a stack keeps: credentials, data, logs. One supervisor at a time."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import StateFolderBusy, StateFolderError
from deploy.local.processes.procfs import is_running
from deploy.local.state.locks import exclusive_lock

_DEFAULT = Path(".hydraserve")
_LOCK_TIMEOUT_S = 5.0
_POLL_PERIOD_S = 0.02


@dataclass(frozen=True)
class StateFolder:
    path: Path  # absolute, without links

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "StateFolder":
        """HYDRASERVE_STATE, or `.hydraserve` where we are."""
        return cls(Path(environ.get("HYDRASERVE_STATE") or _DEFAULT).resolve())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and holds it. Raises StateFolderBusy, StateFolderError.

        The kernel lets go of the lock when the supervisor dies, however it dies.
        """
        with ExitStack() as held:
            descriptor = self._hold(held)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield

    def _hold(self, held: ExitStack) -> int:
        """Puts the lock into `held`; returns the lock file's descriptor."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._require_own()
            return self._lock(held)
        except BlockingIOError as exc:
            raise StateFolderBusy(self.path, self._holder()) from exc
        except OSError as exc:
            reason = f"cannot be used: {exc.strerror}; set HYDRASERVE_STATE to another one"
            raise StateFolderError(self.path, reason) from exc

    def _lock(self, held: ExitStack) -> int:
        """A child that a killed supervisor was just starting shares the lock for a moment more."""
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while True:
            try:
                return held.enter_context(exclusive_lock(self._lock_path, wait=False))
            except BlockingIOError:
                holder = self._holder()
                if (holder is not None and is_running(holder)) or time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_PERIOD_S)

    def _holder(self) -> int | None:
        """Who held the lock last."""
        text = self._lock_path.read_text().strip()
        return int(text) if text.isdigit() else None

    def _require_own(self) -> None:
        """Two users' files in one folder would lock each other out, halfway through a start."""
        owner = self.path.stat().st_uid
        if owner != os.geteuid():
            reason = f"belongs to user id {owner}; be that user, or set HYDRASERVE_STATE"
            raise StateFolderError(self.path, reason)

    @property
    def _lock_path(self) -> Path:
        return self.path / "lock"

    @property
    def credentials(self) -> Path:
        return self.path / "credentials"

    @property
    def gateway_url(self) -> Path:
        """A file that says where the first gateway is; there while the stack runs."""
        return self.path / "gateway-url"

    @property
    def api_key(self) -> Path:
        """The operator's key, once a stack has started here."""
        return self.credentials / "api-key"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def traces(self) -> Path:
        return self.path / "traces"

    @property
    def sources(self) -> Path:
        """Model files that may be registered by path."""
        return self.path / "sources"

    @property
    def health(self) -> Path:
        return self.path / "health"

    def node(self, node_id: str) -> Path:
        """What one node's fetcher and agent keep on disk."""
        return self.path / "nodes" / node_id

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"
