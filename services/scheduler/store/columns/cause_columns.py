"""A cause as the columns of endpoints, workers and cold starts."""

from typing import Any

from libs.common.cause_words import words
from libs.common.causes import FAULTS, Cause, CauseKind, Fault
from services.scheduler.store.columns.text import storable


def columns_of(cause: Cause) -> dict[str, Any]:
    return {
        "cause": storable(words(cause)),
        "cause_kind": cause.kind.value,
        "cause_facts": dict(cause.facts),
    }


def fault_of(cause_kind: str | None) -> Fault:
    """Of a kind as a row has it; one of another version of this software is not foreseen."""
    try:
        return FAULTS[CauseKind(cause_kind or CauseKind.UNKNOWN)]
    except ValueError:
        return FAULTS[CauseKind.UNKNOWN]
