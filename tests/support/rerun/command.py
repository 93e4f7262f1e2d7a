"""Runs a command whose output is shown as it comes, and remembers pytest's closing line."""

import os
import re
import select
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_CLOSING = re.compile(r"(=+ )?(\d+ \w+|no tests ran).* in \d+(\.\d+)?s( \(.+\))?( =+)?")
_POLL_S = 0.2
_READ_BYTES = 65536


@dataclass(frozen=True)
class Ended:
    exit_code: int
    closing_line: str | None  # as it was printed
    is_last: bool  # nothing was printed after it


def run(command: Sequence[str], env: Mapping[str, str]) -> Ended:
    """Ends with the command: what it left behind with its output open is not waited for."""
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    output = _Output()
    with process.stdout as pipe:
        while True:
            has_ended = process.poll() is not None
            if select.select([pipe], [], [], _POLL_S)[0]:
                data = os.read(pipe.fileno(), _READ_BYTES)
                if not data:
                    break
                output.take(data)
            elif has_ended:
                break
    return Ended(process.wait(), output.closing_line, output.is_closed)


class _Output:
    def __init__(self) -> None:
        self.closing_line: str | None = None
        self.is_closed = False
        self._unfinished = b""

    def take(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        for line in lines:
            self._look_at(line.decode(errors="replace"))

    def _look_at(self, line: str) -> None:
        plain = _COLOURS.sub("", line).strip()
        if _CLOSING.fullmatch(plain):
            self.closing_line, self.is_closed = plain, True
        elif plain:
            self.is_closed = False
