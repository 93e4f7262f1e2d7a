"""Where a command writes: results to stdout, everything else to stderr.

In a pipe there are no colours, no bars and no line breaks where a person would need them.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from deploy.cli.output.formatting import without_controls

_PIPE_WIDTH = 250  # characters; nothing breaks a line that a program reads


class Terminal:
    """Made anew for each command, so that it writes to what is stdout then."""

    def __init__(self) -> None:
        self.out = _console(sys.stdout.isatty(), is_error=False)
        self.err = _console(sys.stderr.isatty(), is_error=True)

    def show(self, *items: RenderableType) -> None:
        for item in items:
            self.out.print(item, markup=False, soft_wrap=isinstance(item, str))

    def show_json(self, content: bytes) -> None:
        """As the API sent it, indented."""
        text = json.dumps(json.loads(content), indent=2, ensure_ascii=False)
        if self.out.is_terminal:
            self.out.print_json(text)
        else:
            print(text)

    def write(self, text: str) -> None:
        """A piece of an answer: at once, and as it is where a program reads it."""
        sys.stdout.write(without_controls(text) if self.out.is_terminal else text)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        self.err.print(text, style="dim", markup=False, soft_wrap=True)

    def complain(self, text: str) -> None:
        self.err.print(f"hydraserve: {text}", markup=False, soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator["ProgressLine"]:
        if not self.err.is_terminal:
            yield ProgressLine(self, None)
            return
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
        with Progress(*columns, console=self.err, transient=True) as bar:
            yield ProgressLine(self, bar)


class ProgressLine:
    """A bar for people; in a pipe one line per change of its words."""

    def __init__(self, terminal: Terminal, bar: Progress | None) -> None:
        self._terminal, self._bar = terminal, bar
        self._task = None if bar is None else bar.add_task("", total=None)
        self._words = ""

    def update(self, words: str, bytes_done: int, bytes_total: int) -> None:
        if self._bar is not None and self._task is not None:
            total = bytes_total or None
            self._bar.update(self._task, description=words, completed=bytes_done, total=total)
        elif words != self._words:
            self._terminal.note(words)
        self._words = words


def listing(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Columns under headings, without lines: a person reads it, `awk` too."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _console(is_terminal: bool, *, is_error: bool) -> Console:
    width = None if is_terminal else _PIPE_WIDTH
    return Console(stderr=is_error, highlight=False, width=width)
