"""Steps drawn over a common axis."""

import io

import pytest
from rich.console import Console

from deploy.local.timeline import Step, bar, gantt, timeline_table

STEPS = (
    Step("worker", "load", 1.0, 2.0, "30 layers"),
    Step("fetcher", "fetch", 0.0, 1.5, "269 MB"),
    Step("worker", "first_token", 2.0, None, ""),
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
    printed_lines = printed(timeline_table(STEPS, "a cold start"))
    lines = [line.split() for line in printed_lines if line.strip()]

    assert ["fetcher", "fetch", "0.000", "1.500", "269", "MB"] in lines
    steps = [line[1] for line in lines if line[0] in ("fetcher", "worker")]
    assert steps == ["fetch", "load", "first_token"]


def test_the_bars_share_one_axis() -> None:
    lines = printed(gantt(STEPS, width=16))

    assert lines[0].rstrip().endswith("fetch  ████████████")
    assert lines[1].rstrip().endswith("load          ████████")
    assert "2.000 s" in lines[-1]
