"""Pipelines that become one worker while they generate."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from services.worker.engine.consolidation.kv_ports import KvReceiver
from services.worker.engine.consolidation.options import ConsolidationOptions
from services.worker.engine.engine import StageEngine
from services.worker.engine.execution.follower import Follower
from services.worker.engine.execution.microbatch import KvExport
from services.worker.engine.model.weights import UnitKey, WeightSource
from services.worker.engine_port import (
    CopyPlan,
    KvTransfer,
    Output,
    Pause,
    Request,
    Switched,
    TokenLogprob,
)
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


@dataclass
class Told:
    """What a consolidation told, in order."""

    names: list[str] = field(default_factory=list)
    plan: CopyPlan | None = None
    result: Switched | None = None
    pauses: tuple[Pause, ...] | None = None
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

    def paused(self, pauses: tuple[Pause, ...]) -> None:
        assert self.pauses is None, "told once"
        self.pauses = pauses

    def abandoned(self, why: str) -> None:
        self.names.append("abandoned")
        self.why = why


@dataclass
class Subjects(ABC):
    """A pipeline of a model and everything that its consolidation needs."""

    model: Subject
    engine: StageEngine
    followers: list[Follower]
    kv: KvReceiver
    chance: random.Random
    told: Told = field(default_factory=Told, kw_only=True)

    @property
    @abstractmethod
    def exports(self) -> list[KvExport]:
        """That the entry has asked for."""

    @abstractmethod
    def close_ring(self) -> None:
        """Let the other stages hear that it is closed."""

    def begin(self, options: ConsolidationOptions = NEVER_SLOW) -> None:
        source = ArrivingWeights(self.model.weights, self.chance)
        self.engine.begin_consolidation(source, self.kv, options, self.told)


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
