"""The page about errors shows the table of reasons as the code has it."""

from pathlib import Path

from libs.common.reasons import Reason, RetryAfter

PAGE = Path(__file__).parents[3] / "docs/errors.md"


def line_of(reason: Reason) -> str:
    row = reason.row
    return (
        f"| `{reason.value}` | {row.status} | {row.retry.value} | {when(row.retry_after)} "
        f"| `{row.outcome.value}` | {row.meaning} |"
    )


def when(retry_after: RetryAfter | None) -> str:
    if retry_after is None:
        return ""
    default = f"{retry_after.default_s} s"
    return f"{retry_after.rule}, else {default}" if retry_after.rule else default


def test_the_page_shows_every_reason_as_the_code_has_it() -> None:
    shown = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]

    assert shown == [line_of(reason) for reason in Reason]
