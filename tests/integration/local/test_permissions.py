"""The real server enforces the subject table: every row, every service, both directions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.common.bus.subjects import IMPORT_STREAM, TABLE, Service
from tests.integration.servers import RunningNats
from tests.support.waiting import eventually

NOBODYS = (
    ">",
    "hydra.v1.>",
    "_INBOX.>",  # the client library's default, which everybody could read
    "$SYS.>",
    "$JS.API.>",
)
ADMINISTRATION = (
    f"$JS.API.STREAM.PURGE.{IMPORT_STREAM}",
    f"$JS.API.STREAM.DELETE.{IMPORT_STREAM}",
    "$JS.API.STREAM.CREATE.OTHERS",
    "$SYS.REQ.SERVER.PING",
)


async def ignore(message: Msg) -> None:
    """Receives what nobody looks at."""


@asynccontextmanager
async def connected(
    server: RunningNats, service: Service, violations: list[str]
) -> AsyncIterator[Client]:
    async def note(error: Exception) -> None:
        violations.append(str(error).lower())

    settings = server.settings(service)
    client = await nats.connect(
        settings.url, user=settings.user, password=settings.password, error_cb=note
    )
    try:
        yield client
    finally:
        await client.close()


@pytest.mark.parametrize("service", Service)
async def test_a_service_publishes_what_the_table_gives_it_and_nothing_else(
    nats_server: RunningNats, service: Service
) -> None:
    allowed = [row.wildcard.replace("*", "x") for row in TABLE if service in row.publishers]
    forbidden = [row.wildcard.replace("*", "x") for row in TABLE if service not in row.publishers]
    violations: list[str] = []

    async with connected(nats_server, service, violations) as client:
        for subject in allowed:
            await client.publish(subject, b"{}")
        await client.flush()
        assert violations == []
        for subject in forbidden:
            await client.publish(subject, b"{}")
        await client.flush()
        await eventually(lambda: len(violations) == len(forbidden))

    assert all(f'publish to "{subject}"' in "".join(violations) for subject in forbidden)


@pytest.mark.parametrize("service", Service)
async def test_a_service_hears_what_the_table_gives_it_and_nothing_else(
    nats_server: RunningNats, service: Service
) -> None:
    allowed = [row.wildcard for row in TABLE if service in row.subscribers]
    allowed += [f"{service.inbox_prefix}.>"]
    forbidden = [row.wildcard for row in TABLE if service not in row.subscribers]
    forbidden += [f"{other.inbox_prefix}.>" for other in Service if other is not service]
    violations: list[str] = []

    async with connected(nats_server, service, violations) as client:
        for subject in allowed:
            await client.subscribe(subject, cb=ignore)
        await client.flush()
        assert violations == []
        for subject in (*forbidden, *NOBODYS):
            await client.subscribe(subject, cb=ignore)
        await client.flush()
        await eventually(lambda: len(violations) == len(forbidden) + len(NOBODYS))


@pytest.mark.parametrize("service", [Service.GATEWAY, Service.FETCHER, Service.WORKER])
async def test_only_the_scheduler_administers_the_work_queue(
    nats_server: RunningNats, service: Service
) -> None:
    violations: list[str] = []

    async with connected(nats_server, service, violations) as client:
        for subject in ADMINISTRATION:
            await client.publish(subject, b"{}")
        await client.flush()
        await eventually(lambda: len(violations) == len(ADMINISTRATION))
