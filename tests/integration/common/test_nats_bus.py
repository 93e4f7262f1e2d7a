from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from libs.common.bus.bus import Bus, NatsBus
from libs.common.bus.messages import CancelRequest, GatewayHeartbeat, TokensGenerated
from libs.common.bus.subjects import (
    GATEWAY_HEARTBEAT,
    PREFIX,
    REQUEST_CANCEL,
    REQUEST_TOKENS,
    Service,
)
from libs.common.errors import BusError, BusTimeout
from libs.common.settings import BusSettings
from tests.integration.servers import RunningNats
from tests.support.bus_contract import BusContract, tokens
from tests.support.waiting import eventually


async def connect(server: RunningNats, service: Service) -> NatsBus:
    return await NatsBus.connect(server.settings(service), service, name=f"test-{service}")


class RoleBus:
    """The contract speaks on every subject; this gives each call to a service that may."""

    def __init__(self, buses: dict[Service, NatsBus]) -> None:
        self.buses = buses

    def _for(self, services: frozenset[Service]) -> NatsBus:
        return self.buses[sorted(services)[0]]

    @property
    def is_connected(self) -> bool:
        return all(bus.is_connected for bus in self.buses.values())

    async def publish(self, subject, token, message):  # type: ignore[no-untyped-def]  # forwards
        await self._for(subject.publishers).publish(subject, token, message)

    async def request(self, subject, token, message, *, timeout_s):  # type: ignore[no-untyped-def]  # forwards
        bus = self._for(subject.publishers)
        return await bus.request(subject, token, message, timeout_s=timeout_s)

    async def subscribe(self, subject, token, handler, **options):  # type: ignore[no-untyped-def]  # forwards
        bus = self._for(subject.subscribers)
        return await bus.subscribe(subject, token, handler, **options)

    async def close(self) -> None:
        for bus in self.buses.values():
            await bus.close()


@pytest_asyncio.fixture
async def buses(nats_server: RunningNats) -> AsyncIterator[dict[Service, NatsBus]]:
    connected = {service: await connect(nats_server, service) for service in Service}
    yield connected
    for bus in connected.values():
        await bus.close()


class TestNatsBus(BusContract):
    @pytest.fixture
    def publisher(self, buses: dict[Service, NatsBus]) -> Bus:
        return RoleBus(buses)

    @pytest.fixture
    def listener(self, buses: dict[Service, NatsBus]) -> Bus:
        return RoleBus(buses)

    async def settled(self, bus: Bus) -> None:
        assert isinstance(bus, RoleBus)
        for one in bus.buses.values():
            await one.client.flush(timeout=5)


async def test_subscriptions_and_publishing_survive_a_killed_server(
    nats_server: RunningNats, buses: dict[Service, NatsBus]
) -> None:
    got: list[int] = []

    async def handle(message: TokensGenerated) -> None:
        got.append(message.start_index)

    await buses[Service.GATEWAY].subscribe(REQUEST_TOKENS, "req-1", handle)
    await buses[Service.GATEWAY].client.flush(timeout=5)
    await nats_server.kill()
    await eventually(lambda: not any(bus.is_connected for bus in buses.values()))
    with pytest.raises((BusTimeout, BusError)):
        await buses[Service.GATEWAY].request(
            REQUEST_CANCEL, None, CancelRequest(request_id="req-1", attempt=1), timeout_s=0.2
        )
    await nats_server.start()
    await eventually(lambda: all(bus.is_connected for bus in buses.values()), timeout_s=20)

    async def reaches() -> bool:
        await buses[Service.WORKER].publish(REQUEST_TOKENS, "req-1", tokens(7))
        return 7 in got

    await eventually(reaches, timeout_s=20, poll_s=0.1)


async def test_whoever_listens_on_a_closed_connection_gets_an_error_of_ours(
    nats_server: RunningNats,
) -> None:
    async def handle(message: TokensGenerated) -> None:
        raise AssertionError("nothing was sent")

    bus = await connect(nats_server, Service.GATEWAY)
    listening = await bus.subscribe(REQUEST_TOKENS, "req-1", handle)
    await bus.close()

    with pytest.raises(BusError):
        await bus.subscribe(REQUEST_TOKENS, "req-2", handle)
    with pytest.raises(BusError):
        await listening.unsubscribe()


async def test_wrong_credentials_are_refused_with_the_user_named(nats_server: RunningNats) -> None:
    good = nats_server.settings(Service.GATEWAY)
    wrong = BusSettings(good.url, good.user, "not-the-password")
    with pytest.raises(BusError, match=good.user):
        await NatsBus.connect(wrong, Service.GATEWAY, name="stranger")


async def test_a_service_can_neither_read_nor_forge_what_is_not_its_own(
    nats_server: RunningNats, buses: dict[Service, NatsBus]
) -> None:
    stolen: list[bytes] = []
    forged: list[str] = []

    async def steal(msg: object) -> None:
        stolen.append(b"")

    async def heartbeat(message: GatewayHeartbeat) -> None:
        forged.append(message.gateway_id)

    fetcher, worker = buses[Service.FETCHER], buses[Service.WORKER]
    for subject in (">", f"{PREFIX}.>", f"{PREFIX}.request.*.tokens", "_INBOX_gateway.>", "$JS.>"):
        await fetcher.client.subscribe(subject, cb=steal)
    await buses[Service.SCHEDULER].subscribe(GATEWAY_HEARTBEAT, None, heartbeat)
    for bus in buses.values():
        await bus.client.flush(timeout=5)

    forgery = GatewayHeartbeat(gateway_id="forged", request_ids=())
    honest = GatewayHeartbeat(gateway_id="honest", request_ids=())
    await worker.publish(GATEWAY_HEARTBEAT, "gw-1", forgery)
    await worker.client.flush(timeout=5)
    await worker.publish(REQUEST_TOKENS, "req-1", tokens(0))
    await worker.client.flush(timeout=5)
    await buses[Service.GATEWAY].publish(GATEWAY_HEARTBEAT, "gw-1", honest)

    await eventually(lambda: forged == ["honest"])
    await fetcher.client.flush(timeout=5)
    assert stolen == []
