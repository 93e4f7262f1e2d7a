"""Public load clients, each in a virtual environment of its own beneath the state folder."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.local.state.state_folder import StateFolder


@dataclass(frozen=True)
class ClientEnvironment:
    """What one client needs; `unwanted` are packages that come with them and cannot be loaded."""

    name: str
    packages: tuple[str, ...]
    unwanted: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        state = StateFolder.from_environment(os.environ).path
        return state.absolute() / "load-clients" / self.name

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def install(self) -> None:
        """Minutes and gigabytes at the first call. The test is skipped where it is not possible."""
        done = self.folder / ".installed"
        if done.exists() and done.read_text().split() == list(self.packages):
            return
        pip = [str(self.python), "-m", "pip"]
        _run([sys.executable, "-m", "venv", "--clear", str(self.folder)])
        _run([*pip, "install", "--quiet", *self.packages])
        if self.unwanted:
            _run([*pip, "uninstall", "--quiet", "--yes", *self.unwanted])
        done.write_text("\n".join(self.packages))

    def variables(self, api_key: str) -> Mapping[str, str]:
        """Of its processes: nothing of ours, and no model hub."""
        return {
            "PATH": f"{self.python.parent}:{os.environ.get('PATH', '')}",
            "HOME": str(self.folder),
            "HF_HUB_OFFLINE": "1",
            "OPENAI_API_KEY": api_key,
            # With several its report may come before the last one has told of its requests.
            "GUIDELLM__MAX_WORKER_PROCESSES": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }


def _run(command: Sequence[str]) -> None:
    if subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
        pytest.skip(f"it cannot be installed here: {' '.join(command)}")
