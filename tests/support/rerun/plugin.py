"""A pytest plugin that writes a RunReport: `--failure-report PATH`."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.support.rerun.report import FailedTest, RunReport

_OPTION = "--failure-report"
_CRASHED = "???"  # what xdist calls the phase in which a process crashed


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = "write which tests failed, and with what, to this file"
    parser.addoption(_OPTION, type=Path, default=None, help=help_text)


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption(_OPTION)
    if path is not None and not hasattr(config, "workerinput"):  # xdist's processes do not write
        config.pluginmanager.register(_Reporter(path), "hydraserve-failure-report")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds what only the process that ran the test knows; reports travel as their attributes."""
    report = yield
    if report.failed and call.excinfo is not None:
        fixtures = getattr(item, "funcargs", {}).values()
        report.__dict__["exception_names"] = sorted(class_names(call.excinfo.value))
        report.__dict__["log_folders"] = log_folders(fixtures)
    return report


def class_names(error: BaseException) -> set[str]:
    """Of the exception and everything that it came from or holds."""
    names: set[str] = set()
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        names |= {base.__name__ for base in type(found).__mro__ if base is not object}
        waiting += (found.__cause__, found.__context__)
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions
    return names


def log_folders(fixtures: Any) -> list[str]:
    """Where the stacks log that are among a test's fixtures, or held by one."""
    values = (found for value in fixtures for found in (value, getattr(value, "stack", None)))
    states = (getattr(getattr(value, "options", None), "state", None) for value in values)
    found = (getattr(state, "logs", None) for state in states)
    return sorted({str(path) for path in found if isinstance(path, Path)})


class _Reporter:
    """Gathers where the reports of all processes come together."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._num_passed = 0
        self._failed: list[FailedTest] = []
        self._errors: list[str] = []
        self._num_crashes = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.append(_failed_test(report))
        elif report.passed and report.when == "call":
            self._num_passed += 1

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._errors.append(f"{report.nodeid or 'the tests'} could not be collected")

    def pytest_internalerror(self, excrepr: object) -> None:
        self._errors.append(f"an internal error of pytest: {str(excrepr).splitlines()[-1]}")

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object) -> None:
        """One of xdist's processes has ended; with an error it crashed."""
        self._num_crashes += bool(error)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if session.shouldfail or session.shouldstop:
            self._errors.append(f"it was stopped: {session.shouldfail or session.shouldstop}")
        unexplained = self._num_crashes - sum(test.when == _CRASHED for test in self._failed)
        if unexplained > 0:
            self._errors.append(f"{unexplained} processes crashed beside the tests")
        report = RunReport(
            int(exitstatus), self._num_passed, tuple(self._failed), tuple(self._errors)
        )
        report.write(self._path)


def _failed_test(report: pytest.TestReport) -> FailedTest:
    sections = [f"--- {name} ---\n{content}" for name, content in report.sections]
    return FailedTest(
        nodeid=report.nodeid,
        when=str(report.when),
        exceptions=tuple(getattr(report, "exception_names", ())),
        text="\n".join([report.longreprtext, *sections]),
        log_folders=tuple(getattr(report, "log_folders", ())),
    )
