"""The data plane of hollow workers: what stages tell each other, as datagrams between processes.

Whoever knows an address, knows the socket of its worker's process and the worker in it.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import cast

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"


class RingEvent(StrEnum):
    HELLO = "hello"  # the sender knows the receiver as its neighbour
    HELLO_BACK = "hello back"  # so it does, and was asked
    PREFILL = "prefill"  # the first one has come as far as the receiver
    GONE = "gone"  # the sender has ended


@dataclass(frozen=True)
class RingMessage:
    event: RingEvent
    stage_index: int  # of the sender
    slot_s: float = 0.0  # with PREFILL: how long each stage computes


Hear = Callable[[RingMessage], None]


class DataPlane(asyncio.DatagramProtocol):
    """Of all workers of a process. A datagram may be lost: who needs an answer asks again."""

    def __init__(self) -> None:
        self._members: dict[str, Hear] = {}  # by worker
        self._transport: asyncio.DatagramTransport | None = None
        self._port = 0

    @classmethod
    async def open(cls) -> "DataPlane":
        """Raises OSError."""
        loop = asyncio.get_running_loop()
        _, plane = await loop.create_datagram_endpoint(cls, local_addr=(HOST, 0))
        return plane

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def address_of(self, worker_id: str) -> str:
        return f"tcp://{HOST}:{self._port}/{worker_id}"

    def join(self, worker_id: str, hear: Hear) -> None:
        self._members[worker_id] = hear

    def leave(self, worker_id: str) -> None:
        self._members.pop(worker_id, None)

    def send(self, address: str, message: RingMessage) -> None:
        """To a hollow worker; never waits."""
        if self._transport is None or self._transport.is_closing():
            return
        place, _, worker_id = address.removeprefix("tcp://").partition("/")
        host, _, port = place.partition(":")
        data = json.dumps({"to": worker_id, **asdict(message)}).encode()
        self._transport.sendto(data, (host, int(port)))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)
        self._port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: object) -> None:
        values = json.loads(data)
        hear = self._members.get(values.pop("to"))
        if hear is not None:  # else it has ended meanwhile
            hear(RingMessage(**{**values, "event": RingEvent(values["event"])}))

    def error_received(self, exc: Exception) -> None:
        """A neighbour's whole process is gone."""
        logger.info("a datagram was not delivered: %s", exc)
