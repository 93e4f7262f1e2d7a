"""What one pytest run says of itself to the program that started it: JSON in a file."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class FailedTest:
    nodeid: str
    when: str  # setup, call, teardown; "???" where its process crashed
    exceptions: tuple[str, ...]  # names of the classes, of their bases, causes and group members
    text: str  # as pytest prints it, with what the test had captured
    log_folders: tuple[str, ...]  # of the stacks that it used


@dataclass(frozen=True)
class RunReport:
    exit_status: int  # pytest's own
    num_passed: int
    failed: tuple[FailedTest, ...]
    errors: tuple[str, ...]  # what is no test's: collection, crashed processes, a stopped run

    def write(self, path: Path) -> None:
        """Whole or not at all."""
        unfinished = path.with_name(path.name + ".unfinished")
        unfinished.write_text(json.dumps(asdict(self)))
        unfinished.rename(path)

    @classmethod
    def read(cls, path: Path) -> "RunReport | None":
        """None when the run ended before it could say anything."""
        if not path.exists():
            return None
        content = json.loads(path.read_text())
        tests = tuple(_failed_test(found) for found in content["failed"])
        return cls(content["exit_status"], content["num_passed"], tests, tuple(content["errors"]))


def _failed_test(found: dict[str, str | list[str]]) -> FailedTest:
    lists = {key: tuple(value) for key, value in found.items() if isinstance(value, list)}
    return FailedTest(**(found | lists))  # type: ignore[arg-type]  # as `write` made it
