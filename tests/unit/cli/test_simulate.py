"""`hydraserve simulate`, on a small scenario."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deploy.cli.main import app
from deploy.cli.session import Session
from deploy.local.state.state_folder import StateFolder
from tests.unit.scheduler.simulation.scenarios import SMALL


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def simulate(folder: Path, *options: str) -> Result:
    session = Session(None, None, StateFolder(folder / "state"))
    return CliRunner().invoke(app, ("simulate", *options), obj=session)


def test_policies_and_seeds_are_run_and_written(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "figures.json"

    result = simulate(
        *(tmp_path, str(scenario), "--policy", "hydra,sequential", "--seeds", "2"),
        *("--set", "rate=0.02", "--out", str(out)),
    )

    assert result.exit_code == 0, result.stderr
    heading, *rows = result.stdout.splitlines()
    assert heading.split()[:3] == ["POLICY", "SEED", "REQUESTS"]
    assert [row.split()[:3] for row in rows] == [
        ["hydra", "1", "2"],
        ["sequential", "1", "2"],
        ["hydra", "2", "2"],
        ["sequential", "2", "2"],
    ]
    written = json.loads(out.read_text())
    assert written["traffic"]["rate_per_s"] == 0.02
    assert len(written["runs"]) == len(written["wall"]) == 4
    # 5.6 and 9.35 s of a cold start, against an SLO of 8 s; whoever comes soon after is faster.
    assert written["policies"]["hydra"]["ttft_attainment"]["mean"] == 1.0
    assert written["policies"]["sequential"]["ttft_attainment"]["mean"] < 1.0


def test_a_policy_that_is_named_twice_is_run_once(scenario: Path, tmp_path: Path) -> None:
    result = simulate(tmp_path, str(scenario), "--policy", "single,single", "--set", "rate=0.02")
    assert result.exit_code == 0, result.stderr
    assert [row.split()[:2] for row in result.stdout.splitlines()[1:]] == [["single", "1"]]


def test_a_place_that_cannot_be_written_is_told_before_the_simulation(
    scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.cli.commands.simulate._run", None)
    (tmp_path / "file").touch()

    for out in (tmp_path, tmp_path / "file" / "figures.json"):
        result = simulate(tmp_path, str(scenario), "--out", str(out))
        assert result.exit_code != 0
        assert str(out.parent) in result.stderr.replace("\n", "")


def test_a_picture_is_drawn(scenario: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "small.svg"
    result = simulate(tmp_path, str(scenario), "--picture", str(picture))
    assert result.exit_code == 0, result.stderr
    assert picture.read_text().startswith("<?xml")


def test_a_trace_takes_the_place_of_what_would_be_drawn(scenario: Path, tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    rows = "0,model,100,5\n20,model,100,5\n40,model,100,5\n"
    trace.write_text("arrived_at,model,prompt_tokens,output_tokens\n" + rows)
    result = simulate(tmp_path, str(scenario), "--trace", str(trace))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[1].split()[:3] == ["hydra", "1", "3"]


@pytest.mark.parametrize(
    ("options", "exit_code", "words"),
    [
        (("--policy", "hydra,other"), 2, "expected some of hydra, single, cached, sequential"),
        (("--set", "rate"), 1, "KEY=VALUE"),
        (("--set", "rate=-1"), 1, "traffic.rate_per_s = -1: expected a number of at least 0"),
        (("--constants", "other"), 1, "constants = 'other'"),
        (("--trace", "nowhere.csv"), 1, "nowhere.csv"),
        (("--trace", "nowhere.csv", "--trace-format", "x"), 1, "expected csv or azure"),
        (("--picture", "small.txt"), 1, "a picture ends with"),
        (("--out", "/proc/none/x.json"), 1, "/proc/none"),
    ],
)
def test_what_is_wrong_is_one_line(
    scenario: Path, tmp_path: Path, options: tuple[str, ...], exit_code: int, words: str
) -> None:
    result = simulate(tmp_path, str(scenario), *options)
    assert result.exit_code == exit_code
    (line,) = result.stderr.splitlines()
    assert words in line
