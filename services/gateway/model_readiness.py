"""Whether a model can be asked now, and if not, when and why. Pure."""

from datetime import datetime
from math import ceil

from libs.common.bus.messages import ModelFacts
from libs.common.reasons import Reason
from libs.common.states import ModelState
from services.gateway.errors import InvalidRequest, NotServed
from services.gateway.feasibility import check_kv_cache
from services.gateway.store.model_entry import ModelEntry

_MAX_IMPORT_WAIT_S = 300.0  # its speed may change


def ready_summary(entry: ModelEntry, now: datetime) -> ModelFacts:
    """Of a model that can be asked, or is imported again: what lives of it serves meanwhile, and
    where nothing does the scheduler says so.

    Raises NotServed, saying how far the import is or why it failed.
    """
    if entry.summary is not None and entry.can_be_asked:
        _check_feasible(entry)
        return entry.summary
    if entry.state is ModelState.FAILED:
        message = f"the model {entry.name!r} could not be imported: {entry.cause}"
        raise NotServed(message, Reason.MODEL_FAILED)
    done, total = entry.bytes_done, entry.bytes_total
    how_far = f"{done} of {total} bytes are done" if total else "no byte is done yet"
    message = f"the model {entry.name!r} is being imported, {how_far}"
    wait_s = _import_wait_s(entry, now)
    raise NotServed(message, Reason.MODEL_NOT_READY, retry_after_s=wait_s)


def _import_wait_s(entry: ModelEntry, now: datetime) -> int | None:
    """What is left of the import at its speed until now; None while nobody can tell."""
    if not 0 < entry.bytes_done < entry.bytes_total:
        return None
    taken_s = (now - entry.created_at).total_seconds()
    left_s = taken_s * (entry.bytes_total - entry.bytes_done) / entry.bytes_done
    return ceil(min(max(1.0, left_s), _MAX_IMPORT_WAIT_S))


def _check_feasible(entry: ModelEntry) -> None:
    """It was registered before anybody knew what its tokens take. Raises NotServed."""
    try:
        check_kv_cache(entry)
    except InvalidRequest as exc:
        raise NotServed(exc.message, Reason.MODEL_FAILED) from exc
