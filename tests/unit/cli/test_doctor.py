"""`hydraserve doctor` where no stack runs; with one: tests/acceptance/test_cli.py."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.cli.main import app
from deploy.cli.session import Session
from deploy.local.state.state_folder import StateFolder


@pytest.mark.parametrize(
    ("options", "exit_code", "words"),
    [
        (("doctor",), 2, "give --invariants"),
        (("doctor", "--invariants"), 3, "set HYDRASERVE_STATE"),
    ],
)
def test_it_says_what_is_missing_and_makes_nothing(
    tmp_path: Path, options: tuple[str, ...], exit_code: int, words: str
) -> None:
    session = Session(None, None, StateFolder(tmp_path / "state"))

    result = CliRunner().invoke(app, options, obj=session)

    assert result.exit_code == exit_code
    (line,) = result.stderr.splitlines()
    assert words in line
    assert not (tmp_path / "state").exists()
