"""What is kept of a test's first failure, since its second run may look well."""

import re
import shutil
from pathlib import Path

from tests.support.rerun.report import FailedTest

MAX_LOG_BYTES = 4 * 2**20  # of each file: its end


def keep(failed: tuple[FailedTest, ...], folder: Path) -> None:
    """One folder for each test: what pytest printed, and the logs of its stacks."""
    for test in failed:
        place = folder / _file_name(test.nodeid)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{test.when.strip('?') or 'crash'}.txt").write_text(
            f"{test.nodeid}\n{test.text}\n"
        )
        for number, logs in enumerate(test.log_folders):
            _keep_logs(Path(logs), place / f"logs-{number}")


def _file_name(nodeid: str) -> str:
    """Ids of parameters may hold anything."""
    return re.sub(r"[^\w.-]+", "_", nodeid)[-150:]


def _keep_logs(logs: Path, place: Path) -> None:
    for path in sorted(logs.glob("*.log*")):
        place.mkdir(exist_ok=True)
        with path.open("rb") as source, (place / path.name).open("wb") as copy:
            source.seek(max(0, path.stat().st_size - MAX_LOG_BYTES))
            shutil.copyfileobj(source, copy)
