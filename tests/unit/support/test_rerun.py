"""What CI makes of failures, shown on folders of tiny tests that really run."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.rerun.suite import Commands, run_suite

PROJECT = Path(__file__).parents[3]

HELPERS = """
from pathlib import Path
from tests.support.failures import BrokenInvariant, WrongTokens

def times(name):
    path = Path(__file__).with_name(f"{name}.times")
    count = int(path.read_text()) + 1 if path.exists() else 1
    path.write_text(str(count))
    return count
"""
FINE = "def test_fine(): pass\n"
FLAKY = """
from helpers import *
def test_flaky():
    print("what it printed")
    assert times("flaky") > 1
"""
FLAKY_SETUP = """
import pytest
from helpers import *
@pytest.fixture
def stack(tmp_path):
    assert times("flaky") > 1
def test_flaky(stack): pass
"""
FLAKY_WITH_LOGS = """
import pytest
from types import SimpleNamespace
from helpers import *
@pytest.fixture
def stack(tmp_path):
    (tmp_path / "agent-0.log").write_text("the agent's last words")
    return SimpleNamespace(options=SimpleNamespace(state=SimpleNamespace(logs=tmp_path)))
def test_flaky(stack):
    assert times("flaky") > 1
"""
FLAKY_TWICE = """
from helpers import *
def test_flaky():
    assert times("flaky") not in (1, 3)
"""
SKIPPED_LATER = """
import pytest
from helpers import *
def test_flaky():
    if times("flaky") > 1:
        pytest.skip("alone it does not run")
    assert False
"""
BROKEN = "def test_broken(): assert 1 == 2\n"
WRONG_TOKENS = """
from helpers import *
def test_tokens():
    if times("tokens") == 1:
        raise WrongTokens("[1, 2] instead of [1, 3]")
"""
WRONG_TOKENS_BENEATH = """
from helpers import *
def test_tokens():
    if times("tokens") == 1:
        try:
            raise WrongTokens("[1, 2] instead of [1, 3]")
        except WrongTokens as error:
            raise ExceptionGroup("two answers", [ValueError("late"), error]) from None
"""
WRONG_TOKENS_HIDDEN = """
from helpers import *
def test_tokens():
    if times("tokens") == 1:
        try:
            raise WrongTokens("[1, 2] instead of [1, 3]")
        except WrongTokens:
            raise AssertionError("did not become true") from None
"""
BROKEN_INVARIANT = """
import pytest
from helpers import *
@pytest.fixture
def checked():
    yield
    if times("tokens") == 1:
        raise BrokenInvariant(["4: more is reserved than there is"])
def test_tokens(checked): pass
"""
SIX = """
import pytest
from helpers import *
@pytest.mark.parametrize("number", range(6))
def test_flaky(number):
    times("flaky")
    assert False
"""
NOT_COLLECTED = FLAKY + "\nimport no_such_module\n"
CRASHING = """
import os
from helpers import *
def test_flaky():
    if times("flaky") == 1:
        os._exit(11)
"""
ALONE: Sequence[str] = ()
SHARED: Sequence[str] = ("-p", "xdist", "-n", "2")
BOTH = pytest.mark.parametrize("options", [ALONE, SHARED], ids=["one process", "two processes"])


@dataclass
class Scratch:
    folder: Path
    capture: pytest.CaptureFixture[str]

    def run(self, content: str, options: Sequence[str]) -> tuple[int, list[str]]:
        """The exit code and the lines on the screen."""
        (self.folder / "test_it.py").write_text(FINE + content)
        code = run_suite(self._commands(options), self.folder / "flaky")
        return code, self.capture.readouterr().out.splitlines()

    def times(self, name: str) -> int:
        """How often a test has run."""
        return int((self.folder / f"{name}.times").read_text())

    @property
    def kept(self) -> dict[str, str]:
        found = (path for path in (self.folder / "flaky").rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder / "flaky")): path.read_text() for path in found}

    def _commands(self, options: Sequence[str]) -> Commands:
        pytest_command = (sys.executable, "-m", "pytest", "-p", "tests.support.rerun.plugin")
        here = (f"--rootdir={self.folder}", "-c", str(self.folder / "pytest.ini"))

        def command(path: Path, *arguments: str) -> Sequence[str]:
            return (*pytest_command, *here, f"--failure-report={path}", *arguments)

        return Commands(
            suite=lambda path: command(path, *options, str(self.folder)),
            one_test=lambda path, nodeid: command(path, str(self.folder / nodeid)),
        )


@pytest.fixture
def scratch(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Scratch:
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # starts are quicker
    return Scratch(tmp_path, capfd)


def is_closing(line: str, *parts: str) -> bool:
    return line.startswith("=") and " in " in line and all(part in line for part in parts)


def test_a_suite_that_passes_is_green_and_runs_once(scratch: Scratch) -> None:
    code, lines = scratch.run("", ALONE)

    assert code == 0
    assert is_closing(lines[-1], "1 passed")
    assert len([line for line in lines if is_closing(line)]) == 1


@BOTH
def test_what_passes_alone_twice_is_flaky_named_and_kept(
    scratch: Scratch, options: Sequence[str]
) -> None:
    code, lines = scratch.run(FLAKY, options)

    assert code == 0
    assert scratch.times("flaky") == 3
    assert "flaky: test_it.py::test_flaky" in lines
    assert is_closing(lines[-1], "1 passed")
    (kept,) = scratch.kept.items()
    assert kept[0] == "test_it.py_test_flaky/call.txt"
    assert 'assert times("flaky") > 1' in kept[1] and "what it printed" in kept[1]


def test_a_fixture_may_be_flaky_too(scratch: Scratch) -> None:
    code, lines = scratch.run(FLAKY_SETUP, SHARED)

    assert (code, scratch.times("flaky")) == (0, 3)
    assert "flaky: test_it.py::test_flaky" in lines
    assert list(scratch.kept) == ["test_it.py_test_flaky/setup.txt"]


def test_the_logs_of_its_stack_are_kept(scratch: Scratch) -> None:
    code, _ = scratch.run(FLAKY_WITH_LOGS, SHARED)

    assert code == 0
    logs = scratch.kept["test_it.py_test_flaky/logs-0/agent-0.log"]
    assert logs == "the agent's last words"


@BOTH
def test_a_broken_test_is_red(scratch: Scratch, options: Sequence[str]) -> None:
    code, lines = scratch.run(BROKEN, options)

    assert code == 1
    assert not [line for line in lines if line.startswith("flaky:")]
    assert is_closing(lines[-1], "1 failed")


def test_twice_means_twice(scratch: Scratch) -> None:
    code, lines = scratch.run(FLAKY_TWICE, ALONE)

    assert (code, scratch.times("flaky")) == (1, 3)
    assert is_closing(lines[-1], "1 failed")


def test_one_broken_test_beside_a_flaky_one_is_red(scratch: Scratch) -> None:
    code, lines = scratch.run(FLAKY + BROKEN, ALONE)

    assert code == 1
    assert not [line for line in lines if line.startswith("flaky:")]


def test_a_test_that_is_skipped_alone_has_not_passed(scratch: Scratch) -> None:
    code, _ = scratch.run(SKIPPED_LATER, ALONE)

    assert code != 0


@pytest.mark.parametrize(
    "content",
    [WRONG_TOKENS, WRONG_TOKENS_BENEATH, WRONG_TOKENS_HIDDEN, BROKEN_INVARIANT],
    ids=["raised", "in a group", "behind another", "a broken invariant in a teardown"],
)
def test_wrong_tokens_and_broken_invariants_are_red_at_once(scratch: Scratch, content: str) -> None:
    """They would pass alone: nobody asks."""
    code, lines = scratch.run(content, SHARED)

    assert code == 1
    assert scratch.times("tokens") == 1
    (reason,) = [line for line in lines if line.startswith("red: ")]
    assert ("WrongTokens" in reason) or ("BrokenInvariant" in reason)
    assert is_closing(lines[-1])


def test_six_failures_are_red_at_once(scratch: Scratch) -> None:
    code, lines = scratch.run(SIX, SHARED)

    assert (code, "red: 6 tests failed" in lines) == (1, True)
    assert is_closing(lines[-1], "6 failed")


@BOTH
def test_what_cannot_be_collected_is_red_at_once(scratch: Scratch, options: Sequence[str]) -> None:
    code, lines = scratch.run(NOT_COLLECTED, options)

    assert code != 0
    assert "red: test_it.py could not be collected" in lines
    assert not (scratch.folder / "flaky.times").exists()


def test_a_test_whose_process_crashed_runs_again(scratch: Scratch) -> None:
    code, lines = scratch.run(CRASHING, SHARED)

    assert (code, scratch.times("flaky")) == (0, 3)
    assert "flaky: test_it.py::test_flaky" in lines


def test_a_run_that_dies_without_a_word_is_red(scratch: Scratch) -> None:
    code, lines = scratch.run("import os\ndef test_dies(): os._exit(7)\n", ALONE)

    assert code == 7
    assert "red: pytest did not come to its end" in lines


def test_a_run_that_is_stopped_is_red(scratch: Scratch) -> None:
    """As a timeout of the whole session stops it."""
    code, lines = scratch.run(FLAKY, ("--maxfail=1",))

    assert (code, scratch.times("flaky")) == (1, 1)
    assert "red: it was stopped: stopping after 1 failures" in lines
