"""What an error of a fetch says of its cause. The one place where errors become causes."""

from libs.common.causes import Cause, CauseKind
from libs.common.errors import (
    HydraError,
    ManifestError,
    ObjectMissing,
    ObjectStoreDown,
    ObjectStoreRefused,
    ObjectTooLarge,
)
from libs.common.weights.unitheader import UnitError
from services.fetcher.errors import FetchFailed, HostCacheFull, SharedMemoryFull

_OF_UNITS = {
    UnitError.OBJECT_MISSING: CauseKind.UNIT_MISSING,
    UnitError.DIGEST_MISMATCH: CauseKind.UNIT_CORRUPT,
    UnitError.STORE_UNREACHABLE: CauseKind.STORE_UNREACHABLE,
    UnitError.STORE_REFUSED: CauseKind.STORE_REFUSED,
}


def cause_of(error: Exception) -> Cause:
    match error:
        case FetchFailed():
            return _of_unit(error)
        case SharedMemoryFull():
            return _of_shared_memory(error)
        case HostCacheFull():
            return _of_cache(error)
        case ObjectMissing():
            return Cause.of(CauseKind.UNIT_MISSING, key=error.key)
        case ObjectStoreDown():
            return Cause.of(CauseKind.STORE_UNREACHABLE, detail=str(error))
        case ObjectStoreRefused():
            return Cause.of(CauseKind.STORE_REFUSED, detail=str(error))
        case ManifestError() | ObjectTooLarge():
            return Cause.of(CauseKind.MANIFEST_INVALID, detail=str(error))
        case HydraError():
            return Cause.of(CauseKind.FETCHER_FAILED, detail=str(error))
        case OSError():
            return Cause.of(CauseKind.HOST_CALL_FAILED, detail=str(error))
    return Cause(CauseKind.FETCHER_FAILED)  # a bug: its log has it


def _of_unit(error: FetchFailed) -> Cause:
    kind = _OF_UNITS.get(error.unit_error)
    if kind is None:
        return Cause.of(CauseKind.FETCHER_FAILED, detail=str(error))
    return Cause.of(kind, key=error.key, detail=error.detail or None)


def _of_cache(error: HostCacheFull) -> Cause:
    return Cause.of(
        CauseKind.HOST_CACHE_FULL,
        needed_bytes=error.needed_bytes,
        capacity_bytes=error.capacity_bytes,
        used_bytes=error.used_bytes,
        held_bytes=error.held_bytes,
    )


def _of_shared_memory(error: SharedMemoryFull) -> Cause:
    return Cause.of(
        CauseKind.SHARED_MEMORY_FULL,
        needed_bytes=error.needed_bytes,
        size_bytes=error.capacity_bytes,
        free_bytes=error.free_bytes,
        held_bytes=error.held_bytes,
        folder=str(error.folder),
    )
