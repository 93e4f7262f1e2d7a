"""Logs and traces that many months of running keep small: the newest lines, and one older file.

Whoever writes a file holds it open, in append mode, and is not to be told: the file is copied and
then emptied. Lines written between the two are lost.
"""

import asyncio
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

logger = logging.getLogger(__name__)

MAX_LOG_BYTES = 16 * 2**20
_CHECK_PERIOD_S = 60.0
_PATTERNS = ("*.log", "*.jsonl")


async def keep_small(
    folders: Iterable[Path],
    *,
    max_bytes: int = MAX_LOG_BYTES,
    period_s: float = _CHECK_PERIOD_S,
) -> None:
    """For ever; the first check is at once."""
    kept = tuple(folders)
    while True:
        for folder in kept:
            await asyncio.to_thread(rotate_logs, folder, max_bytes)
        await asyncio.sleep(period_s)


def rotate_logs(folder: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
    """Those of the folder that are over their size."""
    for pattern in _PATTERNS:
        for path in folder.glob(pattern):
            rotate(path, max_bytes)


def rotate(path: Path, max_bytes: int = MAX_LOG_BYTES) -> None:
    """If it exists and is over its size. What cannot be rotated is logged."""
    try:
        if path.exists() and path.stat().st_size > max_bytes:
            _copy_and_empty(path)
    except OSError as exc:
        logger.warning("%s cannot be rotated: %s", path, exc)


def _copy_and_empty(path: Path) -> None:
    older = path.with_name(path.name + ".1")
    older.unlink(missing_ok=True)  # first, so that a full disk has room for the copy
    try:
        shutil.copyfile(path, older)
    finally:
        os.truncate(path, 0)  # also where there is no room to keep anything
