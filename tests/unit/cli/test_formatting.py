"""Words for people."""

import pytest

from deploy.cli.output.formatting import without_controls


@pytest.mark.parametrize(
    ("text", "shown", "reason"),
    [
        ("a\tb\nc", "a\tb\nc", "tabs and line ends are text"),
        ("Zoë ☕ 你好", "Zoë ☕ 你好", "so is what is not ASCII"),
        ("\x1b]0;title\x07", "\ufffd]0;title\ufffd", "an escape sequence must not reach it"),
        ("\x9b2J", "\ufffd2J", "nor its one-character form"),
        ("kept\rlost", "kept\ufffdlost", "a line must not be overwritten"),
    ],
)
def test_what_a_model_writes_cannot_steer_the_terminal(text: str, shown: str, reason: str) -> None:
    assert without_controls(text) == shown, reason
