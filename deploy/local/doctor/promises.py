"""The promises that can be checked from outside, by their numbers in docs/invariants.md."""

from dataclasses import dataclass
from enum import IntEnum


class Promise(IntEnum):
    REQUEST_ENDS = 1
    ORPHANED_REQUEST_ENDS = 2
    USAGE_ONCE = 6
    DEVICE_MEMORY = 7
    RESERVATION_OF_WORKER = 8
    LAYERS_ONCE = 9
    ENDED_ENDPOINT = 10
    ONE_LEADER = 12
    VERSIONS = 13
    VERIFIED_BYTES = 14
    HOST_CACHE = 15
    ENDED_WORKER = 16
    ENDED_STACK = 17
    TENANTS = 18

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Promise.REQUEST_ENDS: "an accepted request ends once, with an outcome, by its deadline",
    Promise.ORPHANED_REQUEST_ENDS: "a request whose gateway is gone ends",
    Promise.USAGE_ONCE: "usage counts a request once",
    Promise.DEVICE_MEMORY: "no more of a device is reserved than it has",
    Promise.RESERVATION_OF_WORKER: "a reservation lives as long as its worker",
    Promise.LAYERS_ONCE: "a layer of a serving endpoint is held once, and one member is its entry",
    Promise.ENDED_ENDPOINT: "an ended endpoint wants no worker",
    Promise.ONE_LEADER: "there is one leadership, with one epoch",
    Promise.VERSIONS: "a node accepts no version that nobody wrote",
    Promise.VERIFIED_BYTES: "bytes of a unit count as readable only when they are verified",
    Promise.HOST_CACHE: "a unit is recorded as cached only where it is complete",
    Promise.ENDED_WORKER: "nothing remains of an ended worker",
    Promise.ENDED_STACK: "nothing remains of an ended stack",
    Promise.TENANTS: "a worker serves its endpoint's tenant",
}


@dataclass(frozen=True)
class Broken:
    """`is_always`: there is no moment at which this is lawful. Others hold soon, not at once."""

    promise: Promise
    subject: str  # whose state it is: an id, the same in every look
    text: str
    is_always: bool = False

    def __str__(self) -> str:
        return f"promise {self.promise.value}: {self.text}"
