"""What a run of the suite means: green, red, or some tests shall run again. Pure."""

from dataclasses import dataclass

from tests.support.failures import BrokenInvariant, WrongTokens
from tests.support.rerun.report import RunReport

MAX_FAILED = 5  # more is no chance
NEVER_AGAIN = (WrongTokens.__name__, BrokenInvariant.__name__)
_TESTS_FAILED = 1  # pytest's exit status; 2 and more: interrupted, internal error, usage, no tests


@dataclass(frozen=True)
class Green:
    pass


@dataclass(frozen=True)
class Red:
    reason: str


@dataclass(frozen=True)
class RunAgain:
    tests: tuple[str, ...]  # node ids, each once


Verdict = Green | Red | RunAgain


def judge(exit_code: int, report: RunReport | None) -> Verdict:
    """`exit_code` is that of the whole command, `report` what pytest said in it."""
    if report is None:
        return Red("pytest did not come to its end") if exit_code else Green()
    if report.errors:
        return Red("; ".join(report.errors))
    if exit_code == 0:
        return Green()
    if report.exit_status != _TESTS_FAILED or not report.failed:
        return Red(f"pytest ended with status {report.exit_status}")
    return _judge_failures(report)


def _judge_failures(report: RunReport) -> Verdict:
    for test in report.failed:
        for name in NEVER_AGAIN:
            if name in test.exceptions:
                return Red(f"{name} in {test.nodeid}")
    tests = tuple(dict.fromkeys(test.nodeid for test in report.failed))
    if len(tests) > MAX_FAILED:
        return Red(f"{len(tests)} tests failed")
    return RunAgain(tests)


def has_passed(exit_code: int, report: RunReport | None) -> bool:
    """Of one test alone: a test that was skipped or not found has not passed."""
    return exit_code == 0 and report is not None and report.num_passed > 0 and not report.errors
