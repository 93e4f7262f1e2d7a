"""Traces of requests from files. A row that makes no sense is an error that names its line."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path

from services.scheduler.simulation.errors import TraceError
from services.scheduler.simulation.scenario.traffic import TraceFormat

CSV_COLUMNS = ("arrived_at", "model", "prompt_tokens", "output_tokens")
AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@dataclass(frozen=True)
class TraceRow:
    """`model`: its name; None where the trace names none. Seconds count from the first row."""

    arrived_at_s: float
    model: str | None
    num_prompt_tokens: int
    num_output_tokens: int


def read_trace(path: Path, format_: TraceFormat) -> list[TraceRow]:
    """In order of arrival. Raises TraceError."""
    columns = CSV_COLUMNS if format_ is TraceFormat.CSV else AZURE_COLUMNS
    parse = _csv_row if format_ is TraceFormat.CSV else _azure_row
    rows = list(_rows(path, columns, parse))
    if not rows:
        raise TraceError(path, 2, "there are no requests")
    first_s = min(row.arrived_at_s for row in rows)
    moved = [
        TraceRow(r.arrived_at_s - first_s, r.model, r.num_prompt_tokens, r.num_output_tokens)
        for r in rows
    ]
    return sorted(moved, key=lambda row: row.arrived_at_s)


def _rows(
    path: Path, columns: tuple[str, ...], parse: Callable[[dict[str, str]], TraceRow]
) -> Iterator[TraceRow]:
    try:
        with path.open(newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != columns:
                found = ",".join(reader.fieldnames or ())
                problem = f"the columns are {found or 'none'}; expected {','.join(columns)}"
                raise TraceError(path, 1, problem)
            for row in reader:
                try:
                    yield parse(_complete(row))
                except ValueError as exc:
                    raise TraceError(path, reader.line_num, str(exc)) from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise TraceError(path, 0, f"it cannot be read: {exc}") from exc


def _complete(row: dict[str, str]) -> dict[str, str]:
    if None in row or None in row.values():
        raise ValueError("it has more or fewer fields than there are columns")
    return row


def _csv_row(row: dict[str, str]) -> TraceRow:
    if not row["model"]:
        raise ValueError("model is empty")
    return TraceRow(
        _moment_s(row["arrived_at"]),
        row["model"],
        _tokens(row, "prompt_tokens"),
        _tokens(row, "output_tokens"),
    )


def _azure_row(row: dict[str, str]) -> TraceRow:
    return TraceRow(
        _timestamp_s(row["TIMESTAMP"]),
        None,
        _tokens(row, "ContextTokens"),
        _tokens(row, "GeneratedTokens"),
    )


def _moment_s(text: str) -> float:
    """Seconds, or a date and time."""
    try:
        value = float(text)
    except ValueError:
        return _timestamp_s(text)
    if not isfinite(value):
        raise ValueError(f"arrived_at = {text!r}: expected seconds or a date and time")
    return value


def _timestamp_s(text: str) -> float:
    """Of a date and time; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as exc:
        raise ValueError(
            f"{text!r}: expected seconds, or a time like 2023-11-16 18:17:03.97"
        ) from exc
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _tokens(row: dict[str, str], column: str) -> int:
    text = row[column]
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"{column} = {text!r}: expected a whole number of at least 0")
    return int(text)
