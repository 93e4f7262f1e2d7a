"""What a person reads of a cold start in stages."""

import io
import os
from dataclasses import replace

import pytest
from rich.console import Console, RenderableType

from deploy.local.report.api_types import ColdStartInfo
from deploy.local.report.demo_report import cold_start_report, describe_bounds, describe_cores
from deploy.local.report.fetch_bounds import FetchBounds, fetch_took_s
from deploy.local.report.stage_table import stage_table
from libs.common.observability.timeline import TimedStep

RATES = {"node-0": 50_000_000, "node-1": 50_000_000}


def stage(index: int, fetched_s: float, imported_s: float, detail: str) -> list[TimedStep]:
    def step(name: str, start_s: float, end_s: float, actor: str = "") -> TimedStep:
        return TimedStep(f"{actor}w{index}", name, f"node-{index}", index, start_s, end_s, detail)

    return [
        step("fetch", 0.1, fetched_s, "fetch/"),
        step("fetch.readable_100%", 0.1, fetched_s, "fetch/"),
        step("spawn", 0.1, 0.11),
        step("import", 0.2, imported_s),
        step("ready", imported_s, imported_s),
    ]


STEPS = (
    TimedStep("scheduler", "queue", None, None, -0.1, 0.0),
    *stage(0, 1.6, 1.2, "16 units, 75.0 MB"),
    *stage(1, 1.7, 2.0, "15 units, 75.0 MB, all cached"),
    TimedStep("w0", "first_token", "node-0", 0, 2.0, 2.1),
)


def record(bytes_from_cache: int = 0) -> ColdStartInfo:
    return ColdStartInfo("start-a", 150_000_000, bytes_from_cache, STEPS)


def printed(items: list[RenderableType], width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    for item in items:
        console.print(item, soft_wrap=isinstance(item, str))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_each_stage_has_a_line_with_what_it_fetched_and_when_it_was_ready() -> None:
    lines = [line.split() for line in printed([stage_table(STEPS, "title")])]

    assert ["0", "node-0", "16", "units,", "75.0", "MB", "1.60", "1.20", "1.20"] in lines
    assert [line[-3:] for line in lines if line[:2] == ["1", "node-1"]] == [
        ["1.70", "2.00", "2.00"]
    ]


@pytest.mark.parametrize("width", [80, 120])
def test_the_report_fits_the_terminal_and_leaves_out_what_held_nobody_up(width: int) -> None:
    lines = printed(cold_start_report(record(), 2.25, RATES, width), width)

    assert max(map(len, lines)) <= width
    assert lines[0].startswith("first token after 2.25 s")
    assert sum(line.startswith("critical path: ") for line in lines) == 1
    spawns = [line for line in lines if "spawn" in line and not line.strip()[-1].isdigit()]
    assert [line.split()[:5] for line in spawns] == [["stage", "1,", "node-1", "spawn", "*"]]


def test_the_networks_bound_is_told_for_one_link_and_for_all() -> None:
    lines = describe_bounds(record(), (50_000_000, 50_000_000))

    assert [" ".join(line.split()) for line in lines] == [
        "fetching 150 MB takes",
        "at least 3.00 s over one link of 50 MB/s",
        "at least 1.50 s over the 2 links of these nodes",
        "and took 1.60 s",
    ]


def test_weights_in_host_caches_have_no_bound() -> None:
    (line,) = describe_bounds(record(bytes_from_cache=150_000_000), (50_000_000,))

    assert line == "nothing had to come over the network"


def test_a_link_without_a_cap_has_no_bound() -> None:
    assert describe_bounds(record(), (50_000_000, 0)) == ["fetching 150 MB took 1.60 s"]


@pytest.mark.parametrize(
    ("origin", "words"), [("launched", "import their libraries at once"), ("standby", "compute")]
)
def test_workers_that_stood_by_import_nothing(
    monkeypatch: pytest.MonkeyPatch, origin: str, words: str
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    steps = tuple(replace(step, detail=origin) for step in STEPS)

    (line,) = describe_cores(replace(record(), steps=steps))

    assert line == f"2 workers {words} on this machine's 1 cores"


def test_unequal_links_are_compared_with_the_fastest_of_them() -> None:
    bounds = FetchBounds(120, (10, 20, 30))

    assert (bounds.alone_s, bounds.together_s) == (4.0, 2.0)


def test_fetching_lasts_from_the_first_byte_asked_for_to_the_last_one_got() -> None:
    assert fetch_took_s(STEPS) == pytest.approx(1.6)
    assert fetch_took_s(()) == 0
