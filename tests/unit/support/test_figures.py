"""What passing tests tell of themselves is on the screen, whichever process ran them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_with_a_figure(number, figure, tally):
    figure(f"p95 {number}.5 s")
    tally("kills", survived=number, lost=0)

def test_with_ties(equality):
    equality.compare("same", [1], [1], lambda index: False)
    equality.compare("tie", [1, 2], [1, 3], lambda index: True)
"""


@pytest.mark.parametrize("options", [["-p", "no:xdist"], ["-n", "2"]], ids=["one", "several"])
def test_figures_of_passing_tests_come_before_the_closing_line(
    tmp_path: Path, options: list[str]
) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.figures", *options]
    # What is asked of this run of pytest is not asked of the one that it starts.
    others = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}

    run = subprocess.run(
        command,
        cwd=tmp_path,
        env={**others, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    shown = run.stdout.partition("figures")[2].splitlines()
    assert shown[1:-1] == [
        "test_it.py::test_with_a_figure[1]: p95 1.5 s",
        "test_it.py::test_with_a_figure[2]: p95 2.5 s",
        "kills: 3 survived, 0 lost",
        "test_it.py: tokens: 2 compared, 1 parted at near ties",
    ]
    assert shown[-1].startswith("3 passed")
