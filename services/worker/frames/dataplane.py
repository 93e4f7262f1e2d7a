"""Identity and security of a stage on the data plane. Plain values, without ZeroMQ."""

from dataclasses import dataclass, field
from enum import StrEnum


class Security(StrEnum):
    CURVE = "curve"  # encrypted; a neighbour proves that it holds its secret key
    TRUSTED = "trusted"  # readable and unproven: only where nobody else reaches the network


@dataclass(frozen=True)
class DataPlaneOptions:
    """How this node's stages meet others. As the agent was told, the same for all its workers."""

    security: Security = Security.CURVE
    host: str = "127.0.0.1"  # where other nodes reach this one
    nic_ledger: str | None = None  # the node's network budget; None: no limit


@dataclass(frozen=True)
class KeyPair:
    """Made by each worker process for itself; only the public half leaves it.

    In trusted mode the public key is nothing but a name that no other process has.
    """

    public: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Neighbour:
    """A stage next to this one in the ring."""

    stage: int
    address: str  # as ZeroMQ writes it: tcp://host:port
    public_key: str
