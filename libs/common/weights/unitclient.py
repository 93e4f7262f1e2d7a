"""How a worker gets its weights: descriptors of unit files, from the fetcher of its node.

One request and its answers over a SEQPACKET unix socket, where each packet is one JSON object and
may carry descriptors. The answers come while the files are being created, so a worker can map the
first unit before the last one exists. Stdlib only: the worker runtime imports this.
"""

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from libs.common.errors import UnitFileError, UnitFileLost, UnitsRefused
from libs.common.weights.manifest import Manifest, UnitEntry
from libs.common.weights.manifest_json import decode_manifest
from libs.common.weights.unitfile import UnitReader

SOCKET_NAME = "fetcher.sock"
MAX_REQUEST_BYTES = 128 * 1024  # the digests of 1,024 layers, and more
MAX_PACKET_BYTES = 64 * 1024
MAX_DESCRIPTORS = 64  # per packet; the kernel's limit is 253
_RECONNECT_PAUSE_S = 0.05


@dataclass(frozen=True)
class Packet:
    body: dict[str, object]
    descriptors: tuple[int, ...]


@dataclass(frozen=True)
class WantedUnits:
    """Units of one model, in the order in which they are needed."""

    manifest_digest: str
    digests: tuple[str, ...]


class UnitSession:
    """Asks the node's fetcher for units; which fetch brings them is the fetcher's business.

    A fetcher that goes away is asked again until the deadline; what was received stays valid.
    """

    def __init__(self, socket_path: Path, units: WantedUnits, *, deadline_s: float) -> None:
        """`deadline_s` is on time.monotonic()."""
        self._path, self._units, self._deadline_s = socket_path, units, deadline_s
        self._connection: socket.socket | None = None
        self._is_closed = False
        self._packets = self._receive_until_done()

    @cached_property
    def manifest(self) -> Manifest:
        """Asks for it, and waits. Raises as `readers` does."""
        packet = next(self._packets, None)
        if packet is None:
            raise UnitFileError("the session was closed")
        (descriptor,) = packet.descriptors
        with open(descriptor, "rb") as file:
            return decode_manifest(file.read())

    def readers(self) -> Iterator[UnitReader]:
        """One reader per unit, in the order in which the worker needs them.

        Raises UnitsRefused with the fetcher's code and cause, UnitFileLost when no fetcher was
        there until the deadline, UnitFileError for a file that is not what it should be.
        """
        seen: set[str] = set()
        known = self.manifest.units_by_digest  # its packet comes first
        for packet in self._packets:
            digests = packet.body["digests"]
            assert isinstance(digests, list)
            for digest, descriptor in zip(digests, packet.descriptors, strict=True):
                try:
                    if digest not in seen:
                        seen.add(digest)
                        yield _open(known.get(digest), digest, descriptor)
                finally:
                    os.close(descriptor)

    def close(self) -> None:
        """Ask for nothing more; `readers` ends with what was received. Any thread."""
        self._is_closed = True
        if (connection := self._connection) is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                connection.shutdown(socket.SHUT_RDWR)

    def _receive_until_done(self) -> Iterator[Packet]:
        """The manifest's packet once, then those with units, over as many connections as needed."""
        has_manifest = False
        while True:
            try:
                for packet in self._ask():
                    kind = packet.body.get("kind")
                    if kind == "done":
                        return
                    if kind == "refused":
                        raise UnitsRefused(str(packet.body["code"]), str(packet.body["message"]))
                    if kind == "manifest" and has_manifest:
                        _close_all(packet.descriptors)
                        continue
                    has_manifest = True
                    yield packet
            except (OSError, EOFError) as exc:
                if self._is_closed:
                    return
                self._pause(exc)

    def _ask(self) -> Iterator[Packet]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            self._connection = connection
            connection.settimeout(self._remaining_s())
            connection.connect(str(self._path))
            if self._is_closed:
                raise EOFError
            deadline_ms = int(self._remaining_s() * 1000)
            request = {
                "manifest_digest": self._units.manifest_digest,
                "unit_digests": self._units.digests,
                "deadline_ms": deadline_ms,
            }
            connection.sendall(json.dumps(request).encode())
            while True:
                # The fetcher answers within the deadline; the second more is for the answer.
                connection.settimeout(self._remaining_s() + 1.0)
                yield _receive(connection)

    def _pause(self, exc: Exception) -> None:
        if self._remaining_s() <= _RECONNECT_PAUSE_S:
            raise UnitFileLost(
                f"no fetcher answered at {self._path} until the deadline ({exc})"
            ) from exc
        time.sleep(_RECONNECT_PAUSE_S)

    def _remaining_s(self) -> float:
        return max(self._deadline_s - time.monotonic(), 0.001)


def _open(unit: UnitEntry | None, digest: str, descriptor: int) -> UnitReader:
    if unit is None:
        raise UnitFileError(f"unit {digest} is not in the manifest")
    return UnitReader(descriptor, digest=digest, size_bytes=unit.size_bytes)


def _receive(connection: socket.socket) -> Packet:
    try:
        data, descriptors, flags, _address = socket.recv_fds(
            connection, MAX_PACKET_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
    except TimeoutError as exc:
        raise UnitFileLost("the fetcher did not answer within the deadline") from exc
    if flags & socket.MSG_CTRUNC:
        _close_all(tuple(descriptors))
        raise UnitFileError("this process may not open so many files (see `ulimit -n`)")
    if not data:
        raise EOFError("the fetcher closed the connection")
    return Packet(json.loads(data), tuple(descriptors))


def _close_all(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
