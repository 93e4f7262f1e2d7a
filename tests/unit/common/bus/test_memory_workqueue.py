import pytest

from libs.common.testing.bus import MemoryWorkQueue
from tests.support.workqueue_contract import GoAway, WorkQueueContract


class TestMemoryWorkQueue(WorkQueueContract):
    @pytest.fixture
    def scheduler(self) -> MemoryWorkQueue:
        return MemoryWorkQueue()

    @pytest.fixture
    def impatient(self, scheduler: MemoryWorkQueue) -> MemoryWorkQueue:
        return scheduler

    @pytest.fixture
    def fetcher(self, scheduler: MemoryWorkQueue) -> MemoryWorkQueue:
        return scheduler

    @pytest.fixture
    def go_away(self, scheduler: MemoryWorkQueue) -> GoAway:
        async def go() -> None:
            scheduler.is_down = True

        return go
