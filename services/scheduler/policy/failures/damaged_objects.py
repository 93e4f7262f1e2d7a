"""What a start that met damaged bytes in the object store means for its model. Pure."""

import re

from libs.common.causes import Cause, CauseKind

_KEY = re.compile(r"(units|tokenizers|manifests)/[0-9a-f]{64}")


def damaged_object(cause: Cause) -> str | None:
    """The key of the object whose bytes are wrong, where that is the cause."""
    key = str(cause.facts.get("key", ""))
    is_damage = cause.kind is CauseKind.UNIT_CORRUPT and _KEY.fullmatch(key)
    return key if is_damage else None


def reimport_words(key: str) -> str:
    """Why a model that was READY is being imported."""
    return f"{key} is damaged in the object store; the model is being imported again"


def lost_words(keys: list[str], why: str) -> str:
    """Why a model that was READY cannot be imported again, and what to do."""
    named = ", ".join(keys[:3]) or "a part of it"
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    verb = "is" if len(keys) < 2 else "are"
    return (
        f"{named}{more} {verb} damaged in the object store, and the model could not be imported "
        f"again: {why}; delete it and register it again from a source that is as it was"
    )
