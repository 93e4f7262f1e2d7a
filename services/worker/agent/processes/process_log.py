"""What a worker process writes to its standard error: bounded on disk, its last lines in memory."""

import asyncio
import logging
from collections import deque
from contextlib import ExitStack
from io import FileIO
from pathlib import Path

logger = logging.getLogger(__name__)

MAX_LOG_BYTES = 2**20  # per worker; then the file starts again, the former half is kept beside it
MAX_LOGS = 40  # of ended workers; the oldest go
NUM_LAST_LINES = 20
_MAX_LINE_CHARACTERS = 300


class WorkerLog:
    """Reads the pipe until its end. `last_lines` help a person who reads why a worker failed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: deque[str] = deque(maxlen=NUM_LAST_LINES)
        self._partial = b""
        self._size_bytes = 0

    async def follow(self, pipe: asyncio.StreamReader) -> None:
        """A file that cannot be written costs the file alone: a worker whose pipe nobody reads
        would stand still."""
        with ExitStack() as stack:
            file = self._open(stack)
            while data := await pipe.read(65_536):
                self._remember(data)
                if file is not None:
                    file = self._write(file, data)

    def _open(self, stack: ExitStack) -> FileIO | None:
        try:
            return stack.enter_context(FileIO(self._path, "w"))
        except OSError as exc:
            logger.warning("what a worker says is not written: %s", exc)
            return None

    def _write(self, file: FileIO, data: bytes) -> FileIO | None:
        try:
            if self._size_bytes + len(data) > MAX_LOG_BYTES:
                self._path.with_suffix(".old").write_bytes(self._path.read_bytes())
                file.seek(0)
                file.truncate()
                self._size_bytes = 0
            self._size_bytes += file.write(data)
        except OSError as exc:
            logger.warning("what a worker says is not written any more: %s", exc)
            return None
        return file

    @property
    def last_lines(self) -> tuple[str, ...]:
        tail = (self._partial.decode(errors="replace"),) if self._partial else ()
        return (*self._lines, *tail)

    def _remember(self, data: bytes) -> None:
        *lines, partial = (self._partial + data).split(b"\n")
        self._partial = partial[-4 * _MAX_LINE_CHARACTERS :]
        for line in lines[-NUM_LAST_LINES:]:
            self._lines.append(line.decode(errors="replace")[:_MAX_LINE_CHARACTERS])


def new_log(run_dir: Path, worker_id: str) -> WorkerLog:
    """In the agent's folder, from which the oldest go.

    Trouble with the folder is logged: it costs files, and no worker its start.
    """
    folder = run_dir / "workers"
    try:
        prepare_log_folder(folder)
    except OSError as exc:
        logger.warning("the folder of the workers' logs: %s", exc)
    return WorkerLog(folder / f"{worker_id}.log")


def prepare_log_folder(folder: Path) -> None:
    """Make the folder and drop the logs of all but the latest workers. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs = sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in logs[MAX_LOGS:]:
        path.unlink(missing_ok=True)
        path.with_suffix(".old").unlink(missing_ok=True)
