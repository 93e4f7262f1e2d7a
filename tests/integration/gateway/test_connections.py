"""Clients over real sockets that stall: before their header is whole, or before they have read."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from libs.common.clock import SystemClock
from services.gateway.http.connection import ConnectionConfig
from services.gateway.http.connection_limiter import ConnectionLimiter
from services.gateway.http.server import Server
from services.gateway.settings import Timing
from tests.support.waiting import eventually
from tests.unit.gateway.stores import KEY
from tests.unit.gateway.tiny import END_ID, ids_of
from tests.unit.gateway.world import FAST, GatewayWorld, gateway_world

QUICK = replace(FAST, header_s=0.3)
SLOW_HEADERS = replace(FAST, header_s=30.0)


@dataclass
class Served:
    world: GatewayWorld
    limiter: ConnectionLimiter
    address: tuple[str, int]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address)

    @contextmanager
    def deaf(self, request: bytes) -> Iterator[socket.socket]:
        """A client that sends and never reads, with as little room for unread bytes as it gets."""
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            client.connect(self.address)
            client.sendall(request)
            yield client


@asynccontextmanager
async def served(timing: Timing = QUICK, max_connections: int = 100) -> AsyncIterator[Served]:
    async with gateway_world(timing) as world:
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        limiter = ConnectionLimiter(max_connections, SystemClock())
        server = Server(
            ConnectionConfig(world.app, limiter, timing, log_config=None, lifespan="off")
        )
        serving = asyncio.create_task(server.serve([listener]))
        await eventually(lambda: server.started)
        try:
            yield Served(world, limiter, listener.getsockname())
        finally:
            server.should_exit = True
            await serving


def chat_request(**parameters: object) -> bytes:
    messages = [{"role": "user", "content": "hi"}]
    body = json.dumps({"model": "tiny", "messages": messages, **parameters}).encode()
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n" % (KEY.encode(), len(body))
    ) + body


HEALTH_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


async def status_of(reader: asyncio.StreamReader) -> int:
    """Of the next answer, which is read whole."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head.split()[1])


async def test_a_stream_that_is_never_read_ends_though_its_worker_has_finished() -> None:
    async with served(SLOW_HEADERS) as at:
        at.world.worker.answer_ids = (*ids_of("x" * 1000), END_ID)

        with at.deaf(chat_request(stream=True, logprobs=True, top_logprobs=2)):
            await eventually(lambda: len(at.world.writer.ended) == 1, what="the request's end")
            await eventually(lambda: at.limiter.num_open == 0, what="the connection's end")

        assert at.world.writer.ended[0].outcome == "client_too_slow"
        assert at.world.gateway.dispatcher.open_ids == ()


async def test_a_whole_answer_that_is_never_read_does_not_keep_its_connection() -> None:
    async with served(SLOW_HEADERS) as at:
        at.world.worker.answer_ids = (*ids_of("x" * 1000), END_ID)

        with at.deaf(chat_request(logprobs=True, top_logprobs=2)):
            await eventually(lambda: len(at.world.writer.ended) == 1, what="the request's end")
            await eventually(lambda: at.limiter.num_open == 0, what="the connection's end")

        assert at.world.writer.ended[0].outcome == "stop"


async def test_requests_behind_an_answer_that_is_never_read_end_too() -> None:
    async with served(SLOW_HEADERS) as at:
        at.world.worker.answer_ids = (*ids_of("x" * 1000), END_ID)
        wanted = {"logprobs": True, "top_logprobs": 2}

        with at.deaf(chat_request(**wanted) + chat_request(**wanted) + chat_request(stream=True)):
            await eventually(lambda: at.world.writer.ended, what="the first request's end")
            await eventually(lambda: at.limiter.num_open == 0, what="the connection's end")

        await eventually(lambda: at.world.gateway.dispatcher.open_ids == ())
        assert at.world.writer.ended[0].outcome == "stop"


async def test_a_header_that_does_not_come_whole_ends_the_connection() -> None:
    async with served() as at:
        silent, talking = await at.connect(), await at.connect()
        talking[1].write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")

        for reader, writer in (silent, talking):
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()


async def test_the_next_header_on_a_kept_connection_has_to_come_whole_too() -> None:
    async with served() as at:
        reader, writer = await at.connect()
        writer.write(HEALTH_REQUEST)
        assert await status_of(reader) == 200
        await asyncio.sleep(2 * QUICK.header_s)  # idle for longer than a header may take

        writer.write(HEALTH_REQUEST)
        assert await status_of(reader) == 200
        writer.write(HEALTH_REQUEST[:10])

        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_an_answer_may_take_longer_than_a_header() -> None:
    async with served() as at:
        at.world.worker.pause_after = 1
        reader, writer = await at.connect()
        writer.write(chat_request())
        await eventually(lambda: len(at.world.worker.generated) == 1)
        await asyncio.sleep(2 * QUICK.header_s)
        at.world.worker.go_on.set()

        assert await status_of(reader) == 200
        writer.close()


async def test_idle_connections_are_closed_for_a_new_client() -> None:
    async with served(SLOW_HEADERS, max_connections=5) as at:
        idle = [await at.connect() for _ in range(5)]
        await eventually(lambda: at.limiter.num_open == 5)

        reader, writer = await at.connect()
        writer.write(HEALTH_REQUEST)

        assert await status_of(reader) == 200
        first, *others = (connection[0] for connection in idle)
        assert await asyncio.wait_for(first.read(1), 10) == b""
        assert not any([await ended(other) for other in others])
        for _, held in [*idle, (reader, writer)]:
            held.close()


async def test_a_gateway_with_nothing_but_busy_connections_says_429() -> None:
    async with served(SLOW_HEADERS, max_connections=1) as at:
        at.world.worker.pause_after = 1
        reader, writer = await at.connect()
        writer.write(chat_request())
        await eventually(lambda: len(at.world.worker.generated) == 1)

        other = await at.connect()
        refused = await status_of(other[0])
        at.world.worker.go_on.set()

        assert (refused, await status_of(reader)) == (429, 200)
        for held in (writer, other[1]):
            held.close()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), 0.2) == b""
    except TimeoutError:
        return False
