"""Gives a stage behind the entry what it needs to become a whole model: the weights of the other
layers as they arrive, and a main loop that serves once the ring is closed."""

from collections.abc import Callable
from dataclasses import replace

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.engine import StageEngine
from services.worker.engine.execution.executor import Executor
from services.worker.engine.execution.follower import Follower
from services.worker.engine.model.place import Place
from services.worker.engine.options import EngineOptions
from services.worker.engine_port import NoEvents
from services.worker.frames.consolidation import AbandonConsolidation, Consolidate
from services.worker.frames.frames import StartWorker
from services.worker.runtime.channel import Channel
from services.worker.runtime.consolidation.arriving_weights import ArrivingParameters
from services.worker.runtime.consolidation.loading import lacking_units, whole_packed_bytes
from services.worker.runtime.consolidation.report import GrowthReport
from services.worker.runtime.prefill_steps import FirstAnswer
from services.worker.runtime.serving_loop import ServingLoop
from services.worker.runtime.start_steps import StartSteps
from services.worker.runtime.unit_mapper import UnitMapper

Attempt = tuple[int, int]  # generation and number


class GrowthDriver:
    """For the thread that owns the follower, and then the engine that it becomes."""

    def __init__(
        self,
        follower: Follower,
        start: StartWorker,
        channel: Channel,
        whole_engine: Callable[[Executor, ArrivingParameters], StageEngine],
    ) -> None:
        self._follower, self._start, self._channel = follower, start, channel
        self._whole_engine = whole_engine
        self._attempt: Attempt | None = None  # the latest
        self._mapper: UnitMapper | None = None  # of the one under way
        self._used: UnitMapper | None = None  # of the one that has switched: it has the leases
        self._source: ArrivingParameters | None = None
        self._report: GrowthReport | None = None

    @property
    def is_under_way(self) -> bool:
        """See Consolidations."""
        return self._mapper is not None

    def begin(self, frame: Consolidate) -> None:
        """See Consolidations."""
        attempt = (frame.generation, frame.attempt)
        if attempt == self._attempt or self._used is not None:
            return
        self._follower.abandon_growth("another attempt begins")
        self._attempt = attempt
        self._report = GrowthReport(frame, self._channel.send, self._note_end)
        mapper = self._mapper = lacking_units(self._start, frame, self._channel.send)
        mapper.start()
        self._source = ArrivingParameters(mapper, self._start.device)
        self._follower.begin_growth(
            self._source, self._report, packed_bytes=whole_packed_bytes(self._start, frame)
        )

    def abandon(self, frame: AbandonConsolidation) -> None:
        """See Consolidations."""
        if (frame.generation, frame.attempt) == self._attempt and self._used is None:
            self._follower.abandon_growth("it is not wanted any more")

    def serving(self) -> ServingLoop | None:
        """See Growths."""
        whole = self._follower.whole
        if whole is None:
            return None
        assert self._report is not None and self._source is not None, "it was begun here"
        untold = StartSteps(lambda frame: None)  # the start that they would be of is over
        loop = ServingLoop(
            self._whole_engine(whole, self._source),
            self._channel,
            untold,
            FirstAnswer(untold),
            consolidations=self,
            is_loaded=True,
        )
        self._report.serving()
        return loop

    def _note_end(self, *, has_switched: bool) -> None:
        """Of the attempt under way."""
        mapper, self._mapper = self._mapper, None
        if has_switched:
            self._used = mapper
        elif mapper is not None:
            mapper.close()


def engine_of_whole(
    config: ModelConfig, options: EngineOptions
) -> Callable[[Executor, ArrivingParameters], StageEngine]:
    """Builds the engine around an executor that is there already."""

    def build(whole: Executor, source: ArrivingParameters) -> StageEngine:
        place = Place.whole(config.num_layers)
        alone = replace(options, events=NoEvents())
        return StageEngine(config, source, alone, place, executor=whole)

    return build
