"""Whether the two neighbours are there, concluded from socket events. Pure, no sockets.

The inlet hears of everybody who opens a connection, so a loss counts only for the connection that
said hello: ZeroMQ names a connection by its file descriptor, in its events and in a message.
"""

from dataclasses import dataclass, field


@dataclass
class InletState:
    """The connection of the previous stage."""

    is_linked: bool = False
    is_lost: bool = False
    _open: set[int] = field(default_factory=set)  # descriptors of all connections
    _peer: int | None = None

    def accepted(self, descriptor: int) -> None:
        self._open.add(descriptor)

    def disconnected(self, descriptor: int) -> None:
        self._open.discard(descriptor)
        self.is_lost |= descriptor == self._peer

    def hello(self, descriptor: int) -> None:
        """Call it with all earlier events taken: a connection that is not open has ended."""
        self._peer = descriptor
        self.is_linked = True
        self.is_lost |= descriptor not in self._open


@dataclass
class OutletState:
    """The connection to the next stage: tried again until it is there, lost once it was."""

    is_linked: bool = False
    is_lost: bool = False
    is_refused: bool = False

    def connected(self) -> None:
        self.is_linked = True

    def disconnected(self) -> None:
        self.is_lost |= self.is_linked

    def refused(self) -> None:
        self.is_refused = True
