"""Stands between a stack's services and its NATS server, and can cut single nodes off.

A cut is a black hole, as a broken network is: connections stay open, new ones are taken, and no
byte passes until the cut is healed; then everything that both sides have sent goes on its way.
"""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress

_NAME = re.compile(rb'CONNECT \{.*?"name": ?"(?:agent|fetcher)-([^"]+)"')
_CHUNK_BYTES = 65_536


class BusProxy:
    """`port_of_server` is asked for each connection: the server may be older or newer than this."""

    def __init__(self, port_of_server: Callable[[], int]) -> None:
        self._port_of_server = port_of_server
        self._server: asyncio.Server | None = None
        self._gates: dict[str, asyncio.Event] = {}  # by node: set while it is connected
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Returns the URL for the services."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self, node_id: str) -> None:
        self._gate(node_id).clear()

    def heal(self, node_id: str) -> None:
        self._gate(node_id).set()

    def _gate(self, node_id: str) -> asyncio.Event:
        if node_id not in self._gates:
            self._gates[node_id] = asyncio.Event()
            self._gates[node_id].set()
        return self._gates[node_id]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(ConnectionError):
            there, back = await asyncio.open_connection("127.0.0.1", self._port_of_server())
            await self._join(reader, writer, there, back)

    async def _join(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        """The server speaks first, then the client says who it is; then both speak freely."""
        try:
            writer.write(await server_reader.readline())
            hello = await reader.readline()
            named = _NAME.match(hello)
            gate = self._gate(named[1].decode() if named else "")
            await gate.wait()
            server_writer.write(hello)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(_pump(reader, server_writer, gate))
                pumps.create_task(_pump(server_reader, writer, gate))
        except* ConnectionError:
            pass  # one side has gone: the other is told by the end of its connection
        finally:
            writer.close()
            server_writer.close()


async def _pump(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, gate: asyncio.Event
) -> None:
    """Raises ConnectionError at the end of the source."""
    while data := await source.read(_CHUNK_BYTES):
        await gate.wait()
        sink.write(data)
        await sink.drain()
    raise ConnectionResetError
