"""The table of reasons: what is decided about each, and that nobody is left without an answer."""

import pytest

from libs.common.reasons import REASONS, ClientRetry, Reason

NEVER, ONCE, LATER = ClientRetry.NEVER, ClientRetry.ONCE, ClientRetry.LATER


@pytest.mark.parametrize(
    ("reason", "status", "retry"),
    [
        (Reason.MODEL_NOT_FOUND, 404, NEVER),
        (Reason.MODEL_NOT_READY, 503, LATER),
        (Reason.MODEL_FAILED, 422, NEVER),
        (Reason.MODEL_TOO_LARGE, 422, NEVER),
        (Reason.DEADLINE_TOO_SHORT, 422, NEVER),
        (Reason.MODEL_BACKING_OFF, 503, LATER),
        (Reason.QUEUE_FULL, 429, LATER),
        (Reason.CLUSTER_FULL, 429, LATER),
        (Reason.TENANT_LIMIT, 429, LATER),
        (Reason.NODE_FAULT, 503, LATER),
        (Reason.DATABASE_UNAVAILABLE, 503, LATER),
        (Reason.SCHEDULER_UNAVAILABLE, 503, LATER),
        (Reason.WORKER_CRASHED, 500, ONCE),
    ],
)
def test_what_was_decided_about_a_reason_is_what_the_table_says(
    reason: Reason, status: int, retry: ClientRetry
) -> None:
    assert (reason.row.status, reason.row.retry) == (status, retry)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_row_that_says_when_to_come_again_if_at_all(reason: Reason) -> None:
    row = REASONS[reason]

    assert (row.retry_after is not None) == (row.retry is LATER)
    assert row.retry_after is None or row.retry_after.default_s >= 1
    assert row.meaning
    assert 400 <= row.status < 600


def test_too_much_to_do_is_429_and_what_is_away_is_503_and_both_say_when_to_come_again() -> None:
    by_status = {status: {r for r in Reason if r.row.status == status} for status in (429, 503)}

    assert all(r.row.retry is LATER for found in by_status.values() for r in found)
    assert not any(r.row.retry is LATER for r in Reason if r.row.status not in by_status)
