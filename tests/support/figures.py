"""Figures that tests tell of themselves, printed at the end of a run, also of one that passes.

A pytest plugin: tests ask for `figure` (a line of its own) or `tally` (counts that are added up).
What they say travels with their reports, so it arrives from other processes, too.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.support.equality import TokenEquality

Figure = Callable[[str], None]
Tally = Callable[..., None]

_FIGURE, _TALLY = "figure", "tally"


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    """Takes a line of text."""

    def tell(text: str) -> None:
        request.node.user_properties.append((_FIGURE, text))

    return tell


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Takes a name and counts by keyword: those of the same name are added up."""

    def tell(name: str, **counts: int) -> None:
        request.node.user_properties.append((_TALLY, [name, counts]))

    return tell


@pytest.fixture
def equality(request: pytest.FixtureRequest, tally: Tally) -> Iterator[TokenEquality]:
    """Whose comparisons and near ties are counted by the test's file."""
    found = TokenEquality()
    yield found
    path = Path(request.node.path).relative_to(request.config.rootpath)
    tally(f"{path}: tokens", compared=found.num_compared, parted_at_near_ties=len(found.ties))


class _Figures:
    """Gathers them where the reports of all processes come together."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "teardown":  # the last of a test: it has all that was told
            return
        for kind, value in report.user_properties:
            if kind == _FIGURE:
                self._lines.append(f"{report.nodeid}: {value}")
            elif kind == _TALLY:
                name, counts = cast("tuple[str, dict[str, int]]", value)
                self._counts[name].update(counts)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        sums = [_sum(name, counts) for name, counts in sorted(self._counts.items())]
        if self._lines or sums:
            terminalreporter.section("figures")
            for line in (*sorted(self._lines), *sums):
                terminalreporter.write_line(line)


def _sum(name: str, counts: Counter[str]) -> str:
    return f"{name}: " + ", ".join(f"{n} {what.replace('_', ' ')}" for what, n in counts.items())


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Figures(), "hydraserve-figures")
