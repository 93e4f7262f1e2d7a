"""Pipelines in one thread that become one worker while they generate."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from services.worker.engine.consolidation.kv_ports import KvBlock, KvBlockLost
from services.worker.engine.consolidation.options import ConsolidationOptions
from services.worker.engine.engine import StageEngine
from services.worker.engine.execution.notices import KvInletOpened, SenderKey
from services.worker.engine.model.weights import UnitKey, WeightSource
from services.worker.engine_port import (
    CopyPlan,
    KvTransfer,
    Output,
    Request,
    Switched,
    TokenLogprob,
)
from tests.unit.worker.engine.pipelines import Pipeline, make_pipeline
from tests.unit.worker.engine.tiny import Subject

NEVER_SLOW = ConsolidationOptions(
    2,
    transfer=KvTransfer.MOVE,
    busy_share=1.0,
    freeze_timeout_s=60,
    open_timeout_s=60,
    copy_timeout_s=60,
)


class ArrivingWeights:
    """Of a model whose units are ready when chance says so."""

    def __init__(self, weights: WeightSource, chance: random.Random) -> None:
        self._weights, self._chance = weights, chance

    def is_ready(self, unit: UnitKey) -> bool:
        return self._chance.random() < 0.7

    def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
        self._weights.wait_unit(unit, timeout_s)

    def tensor(self, unit: UnitKey, name: str) -> torch.Tensor:
        return self._weights.tensor(unit, name)


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

    def open(self, notice: KvInletOpened) -> KvInletOpened:
        self.queue = self.queues[notice.address]
        keys = (*notice.sender_keys, SenderKey(self.stage, "s" * 40))
        return KvInletOpened(notice.address, notice.public_key, keys)

    def send(self, block: KvBlock) -> None:
        self.blocks.append(block)
        self.queue.append(block)


@dataclass
class Told:
    """What a consolidation told, in order."""

    names: list[str] = field(default_factory=list)
    plan: CopyPlan | None = None
    result: Switched | None = None
    why: str = ""
    when_stepped: Callable[[], None] = lambda: None

    def loaded(self) -> None:
        self.names.append("loaded")

    def copying(self, plan: CopyPlan) -> None:
        self.names.append("copying")
        self.plan = plan

    def freezing(self) -> None:
        self.names.append("freezing")

    def unfrozen(self, why: str) -> None:
        self.names.append("unfrozen")
        self.why = why

    def switched(self, switched: Switched) -> None:
        self.names.append("switched")
        self.result = switched

    def stepped(self) -> None:
        self.names.append("stepped")
        self.when_stepped()

    def abandoned(self, why: str) -> None:
        self.names.append("abandoned")
        self.why = why


@dataclass
class Subjects:
    """A pipeline of a model and everything that its consolidation needs."""

    model: Subject
    pipeline: Pipeline
    senders: list[LaneSender]
    kv: KvLane
    chance: random.Random
    told: Told = field(default_factory=Told)

    @property
    def engine(self) -> StageEngine:
        return self.pipeline.engine

    def close_ring(self) -> None:
        """Let the other stages hear that it is closed."""
        for follower in self.pipeline.followers:
            while not follower.has_left:
                assert follower.step(0), "the notice is on its way"

    def begin(self, options: ConsolidationOptions = NEVER_SLOW) -> None:
        source = ArrivingWeights(self.model.weights, self.chance)
        self.engine.begin_consolidation(source, self.kv, options, self.told)


def make_subjects(
    model: Subject,
    layers: list[range],
    chance: random.Random,
    *,
    lose_share: float = 0.0,
    **options: int,
) -> Subjects:
    """All of whose weights are there."""
    senders = [LaneSender(stage) for stage in range(1, len(layers))]
    pipeline = make_pipeline(model, layers, chance, (), senders, **options)
    deque(pipeline.engine.load_units(), maxlen=0)
    for follower in pipeline.followers:
        deque(follower.load_units(), maxlen=0)
    kv = KvLane(senders, chance, lose_share)
    return Subjects(model, pipeline, senders, kv, chance)


@dataclass
class Result:
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: str | None = None

    def add(self, output: Output) -> None:
        assert self.finish is None, "nothing follows the end"
        assert output.start_index == len(self.token_ids), "no token is skipped or repeated"
        self.token_ids += output.token_ids
        self.logprobs += output.logprobs or ()
        self.finish = output.finish


Results = dict[str, Result]


def run_all(
    engine: StageEngine,
    requests: Sequence[Request],
    *,
    between: Callable[[Results], None] = lambda results: None,
    max_steps: int = 5_000,
) -> Results:
    """Until all have ended; `between` two steps it is told of what there is."""
    results: Results = {request.request_id: Result() for request in requests}
    for request in requests:
        engine.add_request(request)
    for _ in range(max_steps):
        between(results)
        engine.optimize_step()
        for output in engine.step():
            results[output.request_id].add(output)
        if all(result.finish is not None for result in results.values()):
            return results
    raise AssertionError(f"requests did not end within {max_steps} steps")
