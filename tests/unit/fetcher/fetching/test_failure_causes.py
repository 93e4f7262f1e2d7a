"""Whose fault a failed fetch is, and that people read what the error says."""

from pathlib import Path

import pytest

from libs.common.cause_words import words
from libs.common.causes import CauseKind, Fault
from libs.common.errors import (
    ManifestError,
    NicRateLimiterError,
    ObjectMissing,
    ObjectStoreDown,
    ObjectStoreRefused,
    ObjectTooLarge,
)
from libs.common.weights.unitheader import UnitError
from services.fetcher.errors import FetchFailed, HostCacheFull, SharedMemoryFull
from services.fetcher.fetching.failure_causes import cause_of

KEY = "units/ab"


@pytest.mark.parametrize(
    ("error", "kind", "fault"),
    [
        (FetchFailed(KEY, UnitError.OBJECT_MISSING), CauseKind.UNIT_MISSING, Fault.STORE),
        (
            FetchFailed(KEY, UnitError.DIGEST_MISMATCH, "chunk 1, read 3 times"),
            CauseKind.UNIT_CORRUPT,
            Fault.STORE,
        ),
        (
            FetchFailed(KEY, UnitError.STORE_UNREACHABLE, "timeout"),
            CauseKind.STORE_UNREACHABLE,
            Fault.STORE,
        ),
        (
            FetchFailed(KEY, UnitError.STORE_REFUSED, "no such key"),
            CauseKind.STORE_REFUSED,
            Fault.STORE,
        ),
        (FetchFailed(KEY, UnitError.MEMORY_CORRUPT), CauseKind.FETCHER_FAILED, Fault.BUG),
        (ManifestError("no such field"), CauseKind.MANIFEST_INVALID, Fault.STORE),
        (ObjectTooLarge(KEY, 9, 8), CauseKind.MANIFEST_INVALID, Fault.STORE),
        (HostCacheFull(4, 3, 2, 1), CauseKind.HOST_CACHE_FULL, Fault.NODE),
        (
            SharedMemoryFull(4, 3, 2, 1, Path("/dev/shm")),
            CauseKind.SHARED_MEMORY_FULL,
            Fault.NODE,
        ),
        (NicRateLimiterError("no ledger"), CauseKind.FETCHER_FAILED, Fault.BUG),
    ],
    ids=lambda value: value.value if isinstance(value, CauseKind) else "",
)
def test_an_error_becomes_a_cause_that_says_the_same(
    error: Exception, kind: CauseKind, fault: Fault
) -> None:
    cause = cause_of(error)

    assert (cause.kind, cause.fault, words(cause)) == (kind, fault, str(error))


@pytest.mark.parametrize(
    ("error", "fault", "said"),
    [
        (ObjectMissing(KEY), Fault.STORE, "units/ab: the object store has no such object"),
        (ObjectStoreDown("timeout"), Fault.STORE, "the object store cannot be reached: timeout"),
        (ObjectStoreRefused("no key"), Fault.STORE, "the object store refuses: no key"),
        (
            OSError(28, "No space left on device"),
            Fault.NODE,
            "the node's system refused a call: [Errno 28] No space left on device",
        ),
        (ValueError("secret"), Fault.BUG, "internal error, see the fetcher's log"),
    ],
)
def test_an_error_of_elsewhere_is_put_into_our_words(
    error: Exception, fault: Fault, said: str
) -> None:
    cause = cause_of(error)

    assert (cause.fault, words(cause)) == (fault, said)
