"""Pipelines of tiny stages inside one thread: what stages send waits in lists between them."""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from services.worker.engine.consolidation.kv_ports import KvSender
from services.worker.engine.engine import StageEngine
from services.worker.engine.execution.follower import Follower
from services.worker.engine.execution.microbatch import KvExport, MicroBatch
from services.worker.engine.execution.notices import Notice
from services.worker.engine.execution.ring import Arrival
from services.worker.engine.model.place import Place
from services.worker.engine_port import NoEvents, StageEvents
from tests.unit.worker.engine.tiny import Subject


class Lane:
    """From one stage to the next, in order."""

    def __init__(self) -> None:
        self.messages: deque[Arrival | Notice] = deque()
        self.num_sent = 0
        self.exports: list[KvExport] = []  # of all micro-batches

    def put(self, batch: MicroBatch, hidden: torch.Tensor) -> None:
        self.exports += batch.exports
        self.messages.append(Arrival(batch, hidden.clone()))
        self.num_sent += 1

    def tell(self, notice: Notice) -> None:
        self.messages.append(notice)

    @property
    def batches(self) -> list[MicroBatch]:
        return [m.batch for m in self.messages if isinstance(m, Arrival)]


class FollowerRing:
    def __init__(self, before: Lane, after: Lane) -> None:
        self._before, self._after = before, after

    def send(self, batch: MicroBatch, hidden: torch.Tensor) -> None:
        self._after.put(batch, hidden)

    def tell(self, notice: Notice) -> None:
        self._after.tell(notice)

    def receive(self, timeout_s: float) -> Arrival | Notice | None:
        return self._before.messages.popleft() if self._before.messages else None

    def wake(self) -> None:
        raise AssertionError("nobody waits on a follower's ring here")


class EntryRing:
    """While the entry stage waits, the others work; while it does not, some of them may."""

    def __init__(self, before: Lane, after: Lane, chance: random.Random) -> None:
        self._before, self._after, self._chance = before, after, chance
        self.followers: list[Follower] = []

    def send(self, batch: MicroBatch, hidden: torch.Tensor) -> None:
        self._after.put(batch, hidden)

    def tell(self, notice: Notice) -> None:
        self._after.tell(notice)

    def receive(self, timeout_s: float) -> Arrival | Notice | None:
        for _ in range(self._chance.randint(0, len(self.followers))):
            self._chance.choice(self.followers).step(0)
        while timeout_s > 0 and not self._before.messages:
            assert any([follower.step(0) for follower in self.followers]), "all wait for ever"
        return self._before.messages.popleft() if self._before.messages else None

    def wake(self) -> None:
        """Nobody sleeps here."""


@dataclass(frozen=True)
class Pipeline:
    engine: StageEngine
    lanes: list[Lane]  # lane i leads from stage i to the next
    followers: list[Follower]


def make_pipeline(
    tiny: Subject,
    layers: list[range],
    chance: random.Random,
    events: Sequence[StageEvents] = (),
    kv_senders: Sequence[KvSender] = (),
    **options: object,
) -> Pipeline:
    """`events` are of each stage, `kv_senders` of each follower, where they are given."""
    num_stages = len(layers)
    if num_stages == 1:
        return Pipeline(tiny.engine(**options), [], [])
    settings = [
        tiny.engine_options(**({"kv_tokens": 512, "events": told} | options))
        for told in events or [NoEvents()] * num_stages
    ]
    lanes = [Lane() for _ in layers]
    ring = EntryRing(lanes[-1], lanes[0], chance)
    engine = StageEngine(
        tiny.config, tiny.weights, settings[0], Place(0, num_stages, layers[0]), ring
    )
    ring.followers = [
        Follower(
            tiny.config,
            tiny.weights,
            settings[index],
            Place(index, num_stages, layers[index]),
            FollowerRing(lanes[index - 1], lanes[index]),
            kv_senders[index - 1] if kv_senders else None,
        )
        for index in range(1, num_stages)
    ]
    return Pipeline(engine, lanes, ring.followers)


def layers_of(cuts: tuple[int, ...], num_layers: int) -> list[range]:
    """Stages between sorted cuts; equal neighbours make a stage without layers."""
    edges = [0, *sorted(cuts), num_layers]
    return [range(start, end) for start, end in pairwise(edges)]
