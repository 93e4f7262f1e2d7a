"""What the entry tells all stages beside micro-batches. Plain values, no torch.

The entry sends a notice, every stage does what it says and passes it on, and when it is back at the
entry all have done it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class SenderKey:
    """What a stage proves with that keys and values come from it."""

    stage: int
    public_key: str


@dataclass(frozen=True)
class KvInletOpened:
    """The entry takes keys and values at this address. Every stage adds its key."""

    address: str
    public_key: str
    sender_keys: tuple[SenderKey, ...] = ()


@dataclass(frozen=True)
class RingClosed:
    """No micro-batch of this generation follows: who leaves the ring now is no loss."""

    generation: int


Notice = KvInletOpened | RingClosed
