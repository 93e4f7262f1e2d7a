"""What an error's SQLSTATE says of trying again, in one table.

A state that is not here is a fault of ours (a wrong statement, a missing grant) and is raised as it
is. Source: https://www.postgresql.org/docs/17/errcodes-appendix.html
"""

from enum import Enum


class Meaning(Enum):
    REFUSED = "refused"  # the values cannot be stored: never the same again
    CONFLICT = "conflict"  # two transactions met: what was rolled back may be tried again at once
    OUTAGE = "outage"  # of the server, not of the values: the same again, later
    OURS = "ours"  # what was asked is wrong


READ_ONLY = "25006"

_CLASSES = {
    "08": Meaning.OUTAGE,  # connection
    "22": Meaning.REFUSED,  # data
    "23": Meaning.REFUSED,  # integrity
    "40": Meaning.CONFLICT,  # rolled back: serialization failures, deadlocks
    "53": Meaning.OUTAGE,  # insufficient resources: disk, memory, connections
    "54": Meaning.REFUSED,  # a limit of the program: a row that is too long
    "57": Meaning.OUTAGE,  # operator intervention: shut down, starting, cancelled, timed out
    "58": Meaning.OUTAGE,  # the system beneath Postgres: input and output
}
# Single states, where their class does not say it.
_STATES = {
    READ_ONLY: Meaning.OUTAGE,  # as at a failover
    "25P03": Meaning.OUTAGE,  # a session that idled in its transaction was ended
    "25P04": Meaning.OUTAGE,  # a transaction took too long
    "40003": Meaning.OUTAGE,  # whether the statement was carried out is not known
    "55000": Meaning.OUTAGE,  # not in the state for it, e.g. still recovering
    "55006": Meaning.OUTAGE,  # somebody uses it
    "55P03": Meaning.OUTAGE,  # a lock is held for too long
}


def meaning_of(sqlstate: str) -> Meaning:
    return _STATES.get(sqlstate) or _CLASSES.get(sqlstate[:2], Meaning.OURS)
