import pytest

from libs.common.bus.bus import Bus
from libs.common.testing.bus import MemoryBroker
from tests.support.bus_contract import BusContract


class TestMemoryBus(BusContract):
    @pytest.fixture
    def broker(self) -> MemoryBroker:
        return MemoryBroker()

    @pytest.fixture
    def publisher(self, broker: MemoryBroker) -> Bus:
        return broker.bus()

    @pytest.fixture
    def listener(self, broker: MemoryBroker) -> Bus:
        return broker.bus()

    async def settled(self, bus: Bus) -> None:
        return None
