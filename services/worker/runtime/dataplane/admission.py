"""Who may connect to a stage: exactly those that it knows. The pure part of a ZAP handler.

ZeroMQ asks it for every connection (RFC 27). Before they are known nobody is let in, but the
request is kept rather than answered: a client that is told no never comes back, and it may hear of
this stage first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from services.worker.frames.dataplane import KeyPair, Neighbour, Security

DOMAIN: Final = b"hydraserve"
MAX_WAITING: Final = 64  # a stranger that connects again and again gets no memory for it

_VERSION: Final = b"1.0"
_YES: Final = (b"200", b"OK")
_NO: Final = (b"400", b"not a neighbour of this stage")
_LATER: Final = (b"300", b"too many wait")  # makes the client try again


@dataclass(frozen=True)
class ZapRequest:
    """One ZAP request. `route` leads the answer back to the connection that waits for it."""

    route: tuple[bytes, ...]
    version: bytes
    request_id: bytes
    domain: bytes
    mechanism: bytes
    credentials: tuple[bytes, ...]

    def answer(self, status: tuple[bytes, bytes], user_id: bytes = b"") -> list[bytes]:
        return [*self.route, _VERSION, self.request_id, *status, user_id, b""]


class Admission:
    """`take` and `open_to` return the answers that are due, as frames. Of a message on a connection
    that was admitted ZeroMQ says the stage, as its `User-Id`.

    `decode_key` turns the text of a public key into its 32 bytes.
    """

    def __init__(
        self, security: Security, own: KeyPair, decode_key: Callable[[str], bytes]
    ) -> None:
        self._security, self._own, self._decode_key = security, own, decode_key
        self._admitted: tuple[Neighbour, ...] | None = None
        self._waiting: list[ZapRequest] = []

    def take(self, frames: list[bytes]) -> list[list[bytes]]:
        request = parse_zap_request(frames)
        if self._admitted is not None:
            return [self._judge(request, self._admitted)]
        self._waiting.append(request)
        if len(self._waiting) <= MAX_WAITING:
            return []
        return [self._waiting.pop(0).answer(_LATER)]

    def open_to(self, *peers: Neighbour) -> list[list[bytes]]:
        self._admitted = peers
        waiting, self._waiting = self._waiting, []
        return [self._judge(request, peers) for request in waiting]

    def _judge(self, request: ZapRequest, peers: tuple[Neighbour, ...]) -> list[bytes]:
        peer = next((peer for peer in peers if self._is_from(request, peer)), None)
        return request.answer(_NO) if peer is None else request.answer(_YES, user_id(peer.stage))

    def _is_from(self, request: ZapRequest, peer: Neighbour) -> bool:
        if (request.version, request.domain) != (_VERSION, DOMAIN):
            return False
        if self._security is Security.CURVE:
            expected: tuple[bytes, ...] = (self._decode_key(peer.public_key),)
            return (request.mechanism, request.credentials) == (b"CURVE", expected)
        names = (peer.public_key.encode(), self._own.public.encode())
        return (request.mechanism, request.credentials) == (b"PLAIN", names)


def user_id(stage: int) -> bytes:
    """What ZeroMQ calls a stage that was let in."""
    return str(stage).encode()


def parse_zap_request(frames: list[bytes]) -> ZapRequest:
    """Frames as a ROUTER socket gets them: the route, an empty one, then RFC 27's fields."""
    start = frames.index(b"") + 1
    version, request_id, domain, _address, _identity, mechanism, *credentials = frames[start:]
    return ZapRequest(
        tuple(frames[:start]), version, request_id, domain, mechanism, tuple(credentials)
    )
