"""Every SQLSTATE of the classes that an outage can show, and what it means for trying again."""

import asyncpg
import pytest

from libs.common.records.database import is_conflict, is_refusal, is_unavailability
from libs.common.records.sqlstates import Meaning, meaning_of

# As Postgres 17 documents them.
CLASSES = {
    "connection": ("08000", "08001", "08003", "08004", "08006", "08007", "08P01"),
    "insufficient resources": ("53000", "53100", "53200", "53300", "53400"),
    "operator intervention": (*("57000", "57014", "57P01", "57P02", "57P03", "57P04", "57P05"),),
    "system": ("58000", "58030", "58P01", "58P02"),
    "read-only": ("25006",),
    "ended by a timeout of the server": ("25P03", "25P04"),
    "not now": ("55000", "55006", "55P03"),
    "completion unknown": ("40003",),
}
CONFLICTS = ("40000", "40001", "40002", "40P01")
REFUSALS = ("22003", "22021", "22P05", "23502", "23505", "23514", "54000")
OURS = ("0A000", "25001", "25P02", "28P01", "3D000", "42501", "42601", "42P01", "55P02", "XX000")


@pytest.mark.parametrize("name", CLASSES)
def test_a_state_of_the_server_is_an_outage(name: str) -> None:
    for sqlstate in CLASSES[name]:
        exc = raised(sqlstate)
        assert meaning_of(sqlstate) is Meaning.OUTAGE, sqlstate
        assert is_unavailability(exc), sqlstate
        assert not is_conflict(exc) and not is_refusal(exc), sqlstate


@pytest.mark.parametrize("sqlstate", CONFLICTS)
def test_transactions_that_met_are_tried_again(sqlstate: str) -> None:
    exc = raised(sqlstate)
    assert is_conflict(exc) and is_unavailability(exc) and not is_refusal(exc)


@pytest.mark.parametrize("sqlstate", REFUSALS)
def test_values_that_cannot_be_stored_are_refused(sqlstate: str) -> None:
    exc = raised(sqlstate)
    assert is_refusal(exc) and not is_unavailability(exc) and not is_conflict(exc)


@pytest.mark.parametrize("sqlstate", OURS)
def test_a_wrong_statement_is_no_outage(sqlstate: str) -> None:
    exc = raised(sqlstate)
    assert not is_unavailability(exc) and not is_conflict(exc) and not is_refusal(exc)


def raised(sqlstate: str) -> asyncpg.PostgresError:
    """As asyncpg makes it from the server's answer."""
    return asyncpg.PostgresError.new({"C": sqlstate, "M": "as the server said it", "S": "ERROR"})
