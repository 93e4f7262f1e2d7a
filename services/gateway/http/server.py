"""Serves HTTP until a signal; then it refuses new requests, drains and closes."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from libs.common.clock import SystemClock
from libs.common.process.garbage_collection import full_collections_when_quiet
from services.gateway.allocator import return_large_blocks
from services.gateway.bootstrap import open_backends, open_gateway
from services.gateway.context import Gateway
from services.gateway.http.app import create_app
from services.gateway.http.connection import ConnectionConfig
from services.gateway.http.connection_limiter import ConnectionLimiter
from services.gateway.http.descriptors import connections_within_limit, raise_descriptor_limit
from services.gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

_HTTP_CLOSE_S = 5
_KEEP_ALIVE_S = 65  # longer than common proxies', so that they and not we end a connection


class Server(uvicorn.Server):
    """uvicorn without its own signal handling: a signal drains first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: GatewaySettings) -> None:
    """Returns after SIGTERM or SIGINT and a drain. Raises BusError when NATS is not there."""
    raise_descriptor_limit()
    return_large_blocks()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_backends(settings) as backends, open_gateway(settings, backends) as gateway:
        app = create_app(gateway, settings.limits.max_body_bytes, settings.allowed_origins)
        async with full_collections_when_quiet(lambda: len(gateway.dispatcher.open_ids)):
            await run_until(stop, make_server(app, settings), gateway, settings.drain_timeout_s)


def make_server(app: FastAPI, settings: GatewaySettings) -> Server:
    max_connections = connections_within_limit(settings.limits.max_connections)
    return Server(
        ConnectionConfig(
            app,
            ConnectionLimiter(max_connections, SystemClock()),
            settings.timing,
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,  # paths hold names; metrics and traces say more
            server_header=False,
            lifespan="off",
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_HTTP_CLOSE_S,
        )
    )


async def run_until(
    stop: asyncio.Event, server: Server, gateway: Gateway, drain_timeout_s: float
) -> None:
    """A second stop does not hurry it: the deadline does."""
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not serving.done():
        logger.info("draining %d requests", len(gateway.dispatcher.open_ids))
        await gateway.dispatcher.drain(drain_timeout_s)
    server.should_exit = True
    await serving
