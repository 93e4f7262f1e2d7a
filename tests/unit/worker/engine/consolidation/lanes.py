"""Pipelines in one thread that become one worker: what stages send waits in lists between them."""

import random
from collections import deque
from dataclasses import dataclass, field

from services.worker.engine.consolidation.kv_ports import KvBlock, KvBlockLost
from services.worker.engine.execution.microbatch import KvExport
from services.worker.engine.execution.notices import KvInletOpened, SenderKey
from tests.unit.worker.engine.consolidation.consolidating import Subjects
from tests.unit.worker.engine.pipelines import Pipeline, make_pipeline
from tests.unit.worker.engine.tiny import Subject


class KvLane:
    """From all followers to the entry: each one's blocks keep their order, and may take time."""

    def __init__(
        self, senders: "list[LaneSender]", chance: random.Random, lose_share: float = 0.0
    ) -> None:
        self._senders, self._chance, self._lose_share = senders, chance, lose_share
        self._queues: list[deque[KvBlock]] = [deque() for _ in senders]
        self.admitted: KvInletOpened | None = None
        self.is_closed = False

    def open(self) -> KvInletOpened:
        address = f"tcp://entry:{id(self)}"
        for sender, queue in zip(self._senders, self._queues, strict=True):
            sender.queues[address] = queue
        return KvInletOpened(address, "k" * 40)

    def admit(self, notice: KvInletOpened) -> None:
        assert [key.stage for key in notice.sender_keys] == list(range(1, len(self._queues) + 1))
        self.admitted = notice

    def receive(self, timeout_s: float) -> KvBlock | KvBlockLost | None:
        assert self.admitted is not None and not self.is_closed
        waiting = [queue for queue in self._queues if queue]
        if not waiting or (timeout_s == 0 and self._chance.random() < 0.3):
            return None
        block = self._chance.choice(waiting).popleft()
        if self._chance.random() < self._lose_share:
            return KvBlockLost(block.export_id, block.stage)
        return block

    def wake(self) -> None:
        """Nobody sleeps here."""

    def close(self) -> None:
        self.is_closed = True


@dataclass
class LaneSender:
    """To the inlet that it heard of last."""

    stage: int
    queues: dict[str, deque[KvBlock]] = field(default_factory=dict)  # by an inlet's address
    queue: deque[KvBlock] = field(default_factory=deque)
    blocks: list[KvBlock] = field(default_factory=list)  # all of them
    is_closed: bool = False

    def open(self, notice: KvInletOpened) -> KvInletOpened:
        self.queue = self.queues[notice.address]
        keys = (*notice.sender_keys, SenderKey(self.stage, "s" * 40))
        return KvInletOpened(notice.address, notice.public_key, keys)

    def send(self, block: KvBlock) -> None:
        assert not self.is_closed
        self.blocks.append(block)
        self.queue.append(block)

    def close(self) -> None:
        assert not self.is_closed, "once"
        self.is_closed = True


@dataclass
class LaneSubjects(Subjects):
    kv: KvLane
    pipeline: Pipeline
    senders: list[LaneSender]

    @property
    def exports(self) -> list[KvExport]:
        return self.pipeline.lanes[0].exports

    def close_ring(self) -> None:
        for follower in self.followers:
            while not follower.has_left:
                assert follower.step(0), "the notice is on its way"


def make_subjects(
    model: Subject,
    layers: list[range],
    chance: random.Random,
    *,
    lose_share: float = 0.0,
    **options: int,
) -> LaneSubjects:
    """All of whose weights are there."""
    senders = [LaneSender(stage) for stage in range(1, len(layers))]
    pipeline = make_pipeline(model, layers, chance, (), senders, **options)
    deque(pipeline.engine.load_units(), maxlen=0)
    for follower in pipeline.followers:
        deque(follower.load_units(), maxlen=0)
    kv = KvLane(senders, chance, lose_share)
    return LaneSubjects(model, pipeline.engine, pipeline.followers, kv, chance, pipeline, senders)
