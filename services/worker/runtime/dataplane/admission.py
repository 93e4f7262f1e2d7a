"""Who may connect to a stage: exactly the previous one. The pure part of a ZAP handler.

ZeroMQ asks it for every connection (RFC 27). Before the neighbours are known nobody is let in, but
the request is kept rather than answered: a client that is told no never comes back, and the
previous stage may hear of this one first.
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

    def answer(self, status: tuple[bytes, bytes]) -> list[bytes]:
        return [*self.route, _VERSION, self.request_id, *status, b"", b""]


class Admission:
    """`take` and `open_to` return the answers that are due, as frames.

    `decode_key` turns the text of a public key into its 32 bytes.
    """

    def __init__(
        self, security: Security, own: KeyPair, decode_key: Callable[[str], bytes]
    ) -> None:
        self._security, self._own, self._decode_key = security, own, decode_key
        self._previous: Neighbour | None = None
        self._waiting: list[ZapRequest] = []

    def take(self, frames: list[bytes]) -> list[list[bytes]]:
        request = parse_zap_request(frames)
        if self._previous is not None:
            return [self._judge(request, self._previous)]
        self._waiting.append(request)
        if len(self._waiting) <= MAX_WAITING:
            return []
        return [self._waiting.pop(0).answer(_LATER)]

    def open_to(self, previous: Neighbour) -> list[list[bytes]]:
        self._previous = previous
        waiting, self._waiting = self._waiting, []
        return [self._judge(request, previous) for request in waiting]

    def _judge(self, request: ZapRequest, previous: Neighbour) -> list[bytes]:
        return request.answer(_YES if self._is_admitted(request, previous) else _NO)

    def _is_admitted(self, request: ZapRequest, previous: Neighbour) -> bool:
        if (request.version, request.domain) != (_VERSION, DOMAIN):
            return False
        if self._security is Security.CURVE:
            expected: tuple[bytes, ...] = (self._decode_key(previous.public_key),)
            return (request.mechanism, request.credentials) == (b"CURVE", expected)
        names = (previous.public_key.encode(), self._own.public.encode())
        return (request.mechanism, request.credentials) == (b"PLAIN", names)


def parse_zap_request(frames: list[bytes]) -> ZapRequest:
    """Frames as a ROUTER socket gets them: the route, an empty one, then RFC 27's fields."""
    start = frames.index(b"") + 1
    version, request_id, domain, _address, _identity, mechanism, *credentials = frames[start:]
    return ZapRequest(
        tuple(frames[:start]), version, request_id, domain, mechanism, tuple(credentials)
    )
