"""Steps drawn over a common axis."""

import io

import pytest
from rich.console import Console

from deploy.local.report.drawing import bar, gantt, path_table, timeline_table
from libs.common.observability.criticalpath import critical_path
from libs.common.observability.timeline import TimedStep

STEPS = (
    TimedStep("w0", "load", "node-0", 0, 1.0, 2.0, "30 layers [bold]"),
    TimedStep("fetch/w0", "fetch", "node-0", 0, 0.0, 1.5, "269 MB"),
    TimedStep("w1", "import", "node-1", 1, 0.0, 1.0),
    TimedStep("w0", "first_token", "node-0", 0, 2.0, None),
)


@pytest.mark.parametrize(
    ("start_s", "end_s", "drawn"),
    [
        (0.0, 4.0, "████"),  # all of the axis
        (1.0, 3.0, " ██"),
        (0.5, 1.5, "▐▌"),  # halves of a character
        (2.0, 2.0, "  ▌"),  # too short to see, yet there
        (4.0, 4.0, "   ▐"),  # at the very end
        (-1.0, 1.0, "█"),  # a node's clock before the scheduler's
        (3.0, 9.0, "   █"),  # and behind it
    ],
)
def test_a_bar_covers_its_part_of_the_axis(start_s: float, end_s: float, drawn: str) -> None:
    assert bar(start_s, end_s, total_s=4.0, width=4) == drawn


def test_an_axis_without_length_draws_something() -> None:
    assert bar(0.0, 0.0, total_s=0.0, width=4) == "▌"


def printed(renderable: object) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_the_table_lists_the_steps_in_order_with_their_times() -> None:
    lines = [line.split() for line in printed(timeline_table(STEPS, "a cold start")) if line]

    assert ["fetcher", "node-0", "(0)", "fetch", "0.000", "1.500", "269", "MB"] in lines
    names = [line[3] for line in lines if line[:1] in (["fetcher"], ["worker"])]
    assert names == ["import", "fetch", "load", "first_token"]
    assert any("[bold]" in line for line in lines), "what a node reports is text, not markup"


def test_the_bars_share_one_axis_and_go_stage_by_stage() -> None:
    lines = printed(gantt(STEPS, critical_path(STEPS), width=16))

    assert lines[0].split() == ["stage", "0,", "node-0", "fetch", "*", "████████████"]
    assert lines[1].split() == ["load", "*", "████████"]
    assert lines[3].split() == ["stage", "1,", "node-1", "import", "████████"]
    assert "2.000 s" in lines[-1]


def test_the_path_says_what_the_time_went_to() -> None:
    lines = printed(path_table(critical_path(STEPS)))

    assert lines[0].strip() == "critical path: 75 % network, 25 % loading"
    assert any(line.split()[-4:] == ["1.500", "2.000", "0.500", "25"] for line in lines)


def test_a_start_without_steps_has_an_empty_path() -> None:
    assert "nothing was reported" in printed(path_table(()))[0]
