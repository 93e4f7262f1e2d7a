"""A cause as the columns of endpoints, workers and cold starts."""

from typing import Any

from libs.common.cause_words import words
from libs.common.causes import Cause
from services.scheduler.store.text import storable


def columns_of(cause: Cause) -> dict[str, Any]:
    return {
        "cause": storable(words(cause)),
        "cause_kind": cause.kind.value,
        "cause_facts": dict(cause.facts),
    }
