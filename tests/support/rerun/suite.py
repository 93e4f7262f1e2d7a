"""Runs the suite, and the few tests that failed again: each alone, twice.

Green if the suite passed, or if every failed test passed both times: then it is named as flaky, and
what its failure left is kept. The last line printed is pytest's closing line of the last run.
"""

import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.rerun import command, evidence
from tests.support.rerun.command import Ended
from tests.support.rerun.report import RunReport
from tests.support.rerun.verdict import Green, Red, RunAgain, has_passed, judge

NUM_TIMES = 2


@dataclass(frozen=True)
class Commands:
    """Each takes where the run writes its report, and returns what is to be executed."""

    suite: Callable[[Path], Sequence[str]]
    one_test: Callable[[Path, str], Sequence[str]]


@dataclass(frozen=True)
class _Run:
    ended: Ended
    report: RunReport | None


def make_commands() -> Commands:
    """`make test`, and pytest for one test."""
    arguments = os.environ.get("ARGS", "")

    def suite(path: Path) -> Sequence[str]:
        option = f"--failure-report={shlex.quote(str(path))}"
        return ("make", "--no-print-directory", "test", f"ARGS={arguments} {option}".strip())

    def one_test(path: Path, nodeid: str) -> Sequence[str]:
        return (sys.executable, "-m", "pytest", f"--failure-report={path}", nodeid)

    return Commands(suite, one_test)


def run_suite(commands: Commands, kept: Path) -> int:
    """The exit code. `kept` is the folder for what failures left; it is made when needed."""
    with tempfile.TemporaryDirectory(prefix="hydraserve-ci-") as scratch:
        path = Path(scratch) / "suite.json"
        first = _run(commands.suite(path), path)
        verdict = judge(first.ended.exit_code, first.report)
        match verdict:
            case Green():
                return _close(first, 0)
            case Red(reason):
                print(f"red: {reason}", flush=True)
                return _close(first, first.ended.exit_code or 1)
            case RunAgain(tests):
                assert first.report is not None  # it named them
                evidence.keep(first.report.failed, kept)
                return _run_again(tests, commands, Path(scratch), kept)


def _run_again(tests: Sequence[str], commands: Commands, scratch: Path, kept: Path) -> int:
    """Stops at the first one that fails once more."""
    print(f"running again, alone: {', '.join(tests)}", flush=True)
    last: _Run | None = None
    for number, nodeid in enumerate(name for name in tests for _ in range(NUM_TIMES)):
        path = scratch / f"again-{number}.json"
        last = _run(commands.one_test(path, nodeid), path)
        if not has_passed(last.ended.exit_code, last.report):
            print(f"red: {nodeid} fails alone, too; see {kept}", flush=True)
            return _close(last, last.ended.exit_code or 1, is_repeated=True)
    assert last is not None  # there was a test
    for nodeid in tests:
        print(f"flaky: {nodeid}", flush=True)
    print(f"what its failure left is in {kept}", flush=True)
    return _close(last, 0, is_repeated=True)


def _run(arguments: Sequence[str], path: Path) -> _Run:
    ended = command.run(arguments, os.environ)
    return _Run(ended, RunReport.read(path))


def _close(run: _Run, exit_code: int, *, is_repeated: bool = False) -> int:
    """pytest's closing line is the last thing that CI prints."""
    line = run.ended.closing_line
    if line is not None and (is_repeated or exit_code or not run.ended.is_last):
        print(line, flush=True)
    return exit_code
