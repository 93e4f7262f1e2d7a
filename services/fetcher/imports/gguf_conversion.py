"""GGUF to safetensors, in a one-shot subprocess that knows nothing and may do little.

The parser of a foreign binary format is the likeliest thing here to be attacked or to run wild:
it gets the open file, an empty folder, limits, and an environment without a single credential. It
confines itself (`gguf_child.py`), so that it finds none in files or in this process either; where
this process is root, it is another user besides.
"""

import asyncio
import contextlib
import logging
import math
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.fetcher.errors import ImportRefused
from services.fetcher.imports import landlock
from services.fetcher.imports.conversion_account import Account, child_account, given_copy
from services.fetcher.imports.source import SourceFile, opened_file

logger = logging.getLogger(__name__)

_PROJECT = Path(__file__).resolve().parents[3]
_PREFIX = "convert-"
_MAX_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True)
class ConversionLimits:
    memory_bytes: int  # address space
    timeout_s: float
    num_threads: int = 1
    may_be_unconfined: bool = False  # where the kernel has no Landlock


@contextlib.asynccontextmanager
async def converted_gguf(
    source: Path, roots: Sequence[Path], scratch_dir: Path, limits: ConversionLimits
) -> AsyncIterator[Path]:
    """A folder with the converted model; it is removed at the end. Raises ImportRefused."""
    is_unconfined = not _is_confined(limits, landlock.version())
    with contextlib.ExitStack() as stack:
        file = await asyncio.to_thread(stack.enter_context, opened_file(source, roots))
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=_PREFIX, dir=scratch_dir))
        try:
            job = _Job(folder, limits, child_account(_programs(), folder), is_unconfined)
            await _convert_unchanged(file, job)
            yield folder / "model"
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def sweep(scratch_dir: Path) -> None:
    """Remove what a killed importer left behind."""
    for folder in scratch_dir.glob(_PREFIX + "*"):
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class _Job:
    folder: Path
    limits: ConversionLimits
    account: Account | None  # whose process it is, if not ours
    is_unconfined: bool


def _is_confined(limits: ConversionLimits, landlock_version: int) -> bool:
    """Raises ImportRefused where it could not be and has to."""
    if landlock_version == 0 and not limits.may_be_unconfined:
        raise ImportRefused(
            "conversion_unconfined",
            "a foreign GGUF file is not parsed where the parser cannot be confined: the kernel of "
            "the importer lacks Landlock (Linux 5.13 has it, if it was built with it), or the "
            "profile of its container forbids it; register the model as safetensors, or set "
            "HYDRA_CONVERT_UNCONFINED=1 for the importer",
        )
    return landlock_version > 0


def _programs() -> tuple[Path, ...]:
    return (Path(sys.executable), Path(sys.prefix), _PROJECT)


async def _convert_unchanged(file: SourceFile, job: _Job) -> None:
    try:
        with contextlib.ExitStack() as stack:
            descriptor = file.descriptor
            if job.account is not None:
                given = given_copy(file, job.folder, job.account)
                descriptor = await asyncio.to_thread(stack.enter_context, given)
            await _convert(descriptor, job)
    except ImportRefused:
        file.require_unchanged()  # then that is why
        raise
    file.require_unchanged()


async def _convert(descriptor: int, job: _Job) -> None:
    folder, limits = job.folder, job.limits
    process = await asyncio.create_subprocess_exec(
        *_command(descriptor, job),
        **({} if job.account is None else job.account.of_subprocess),
        env=_environment(folder, limits),
        cwd=folder,
        pass_fds=[descriptor],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
        limit=_MAX_ERROR_BYTES,
    )
    try:
        async with asyncio.timeout(limits.timeout_s):
            cause = await _last_line(process)
            code = await process.wait()
    except TimeoutError as exc:
        raise ImportRefused(
            "conversion_timeout",
            f"the conversion took longer than {limits.timeout_s:g} s; allow more time, or register "
            "the model as safetensors",
        ) from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        raise ImportRefused(
            "conversion_failed",
            f"the GGUF file could not be converted: {_explain(code, cause)}; see that the file is "
            "whole and its architecture known, or register the model as safetensors",
        )


def _command(descriptor: int, job: _Job) -> list[str]:
    limits = job.limits
    return [
        sys.executable,
        "-m",
        "services.fetcher.imports.gguf_child",
        f"--descriptor={descriptor}",
        f"--folder={job.folder}",
        f"--memory-bytes={limits.memory_bytes}",
        f"--cpu-seconds={math.ceil(limits.timeout_s) * limits.num_threads}",
        *(["--is-unconfined"] if job.is_unconfined else []),
    ]


def _environment(folder: Path, limits: ConversionLimits) -> dict[str, str]:
    """Nothing is inherited."""
    return {
        "PATH": "/usr/bin:/bin",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "PYTHONPATH": str(_PROJECT),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder),
        "OMP_NUM_THREADS": str(limits.num_threads),
        "LC_ALL": "C.UTF-8",
    }


async def _last_line(process: asyncio.subprocess.Process) -> str:
    """Reads all of the error output, keeps its end."""
    assert process.stderr is not None
    tail = b""
    while piece := await process.stderr.read(4096):
        tail = (tail + piece)[-4096:]
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _explain(code: int, last_line: str) -> str:
    if code < 0:
        return f"it was ended by signal {-code} (too much memory or time?)"
    return last_line or f"exit code {code}"
