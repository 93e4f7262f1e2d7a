"""The engine of an entry stage: requests in, tokens out, one step at a time.

One thread owns it and calls `wait_for_work` and `step`; any thread may call `add_request`,
`cancel`, `wake` and read `stats`. A step launches the micro-batch that `schedule.py` plans, takes
back the oldest one that has gone through all stages, samples, and says what came of it; a whole
model is a pipeline of one stage. What a step raises concerns all requests alike (weights that never
arrive, memory, a broken device, a lost neighbour): the owner must let the process end with it.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Many
from time import monotonic, perf_counter
from typing import Final

import torch

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.consolidation.consolidation import Consolidation
from services.worker.engine.consolidation.kv_ports import KvReceiver
from services.worker.engine.consolidation.options import ConsolidationOptions
from services.worker.engine.consolidation.pauses import PauseMeter
from services.worker.engine.execution.command_queue import Add, Cancel, Command, CommandQueue
from services.worker.engine.execution.executor import Executor
from services.worker.engine.execution.pipeline import Pipeline, Returned
from services.worker.engine.execution.ring import Loopback, Ring
from services.worker.engine.model.place import Place
from services.worker.engine.model.weights import ArrivingWeights, WeightSource
from services.worker.engine.options import EngineOptions
from services.worker.engine.request_table import RequestTable
from services.worker.engine.sampling.sampler import sample
from services.worker.engine.scheduling.batch import Chunk
from services.worker.engine.scheduling.request_check import check_request
from services.worker.engine.scheduling.schedule import Schedule
from services.worker.engine.statistics import EngineStatistics
from services.worker.engine_port import (
    ConsolidationEvents,
    EngineStats,
    NoEvents,
    Output,
    Request,
)

COLLECT_WAIT_S: Final = 0.2  # a step with nothing else to do returns at least this often


class StageEngine:
    def __init__(
        self,
        config: ModelConfig,
        source: WeightSource,
        options: EngineOptions,
        place: Place | None = None,
        ring: Ring | None = None,
        executor: Executor | None = None,
    ) -> None:
        """Without a place and a ring it runs the whole model, by `executor` where that is there
        already.

        Raises EngineError when the budget holds less than two tokens.
        """
        place = place or Place.whole(config.num_layers)
        self._executor = executor or Executor.build(config, source, options, place)
        self._pipeline = Pipeline(self._executor, ring or Loopback(), options.events)
        capacity = self._executor.capacity
        self.max_context_tokens = capacity.max_context_tokens
        self._vocab_size = config.vocab_size
        self._schedule = Schedule(
            num_kv_slots=capacity.num_slots,
            max_running=options.max_running,
            max_step_tokens=capacity.max_tokens,
            num_batches=place.num_stages,
        )
        self._commands_in = CommandQueue()
        self._requests = RequestTable(
            self._schedule,
            eos_token_ids=options.eos_token_ids,
            max_context_tokens=capacity.max_context_tokens,
        )
        self._is_whole = False  # no stage waits for weights any more
        self._statistics = EngineStatistics(
            num_slots=capacity.num_slots, kv_bytes_per_token=self._executor.cache.bytes_per_token
        )
        self._consolidation: Consolidation | None = None
        self._pauses: PauseMeter | None = None  # of a switch that may come, or came just now

    @property
    def stats(self) -> EngineStats:
        """As of the end of the last step."""
        return self._statistics.stats

    @property
    def cache(self) -> KvCache:
        """For a warm-up before the first step: no slot is in use by then."""
        return self._executor.cache

    def load_units(self) -> Iterator[None]:
        """Wait for all weights, yielding after each unit; steps may be taken in between.

        Without it steps wait for what they need. Raises WeightsUnavailable or TensorError.
        """
        yield from self._executor.load_units()

    def add_request(self, request: Request) -> None:
        """Queue a request for the next step. Raises RequestRefused if it can never be served.

        A newer attempt replaces an older one; an attempt that is already here changes nothing.
        """
        check_request(
            request, vocab_size=self._vocab_size, max_context_tokens=self.max_context_tokens
        )
        self._put(Add(request))

    def cancel(self, request_id: str, attempt: int) -> None:
        """End that attempt, or an older one, at the next step; nothing if it is not here."""
        self._put(Cancel(request_id, attempt))

    def _put(self, command: Command) -> None:
        self._commands_in.put(command)
        self._pipeline.wake()

    def wake(self) -> None:
        """End `wait_for_work` or a step's waiting early."""
        self._commands_in.wake()
        self._pipeline.wake()

    @property
    def is_idle(self) -> bool:
        """Whether steps have nothing to do until a request arrives. For the owner."""
        return self._requests.is_empty and self._pipeline.is_empty

    def wait_for_work(self, timeout_s: float) -> None:
        """Return at once while requests are unfinished, otherwise when one arrives."""
        if self.is_idle:
            self._commands_in.wait(timeout_s)

    @torch.inference_mode()
    def step(self) -> list[Output]:
        """Take what arrived, launch a micro-batch, take one back, return what happened.

        Waits, for COLLECT_WAIT_S at most, while other stages have all the work.
        """
        outputs = self._requests.take(self._commands_in.drain())
        if self._consolidation is not None:
            self._consolidate(self._consolidation)
        if self._pauses is not None:
            self._forget_ended(self._pauses)
        started_s, is_alone = perf_counter(), self._pipeline.is_empty and self._is_whole
        launched = self._launch()
        self._statistics.launched(launched, started_s, is_alone=is_alone)
        can_launch_more = bool(launched) and self._pipeline.has_room
        returned = self._collect(0.0 if can_launch_more else COLLECT_WAIT_S)
        if returned is not None:
            outputs += self._complete(returned)
            self._is_whole = self._is_whole or self._executor.is_loaded
        ended_s = perf_counter()
        if returned is not None:
            self._statistics.returned(returned, ended_s)
        self._statistics.count(launched, outputs, ended_s - started_s, self._schedule)
        return outputs

    @torch.inference_mode()
    def optimize_step(self) -> bool:
        """Spend some milliseconds between two steps on making later ones faster.

        False when nothing is left to do now, and until the first tokens are out. For the owner.
        """
        if not self.is_idle and self.stats.num_tokens_generated == 0:
            return False
        if self.stats.num_tokens_generated > 0 and self._executor.optimize_step():
            return True
        consolidation = self._consolidation
        return consolidation is not None and consolidation.load_next(is_busy=not self.is_idle)

    # ------------------------------------------------------------------ consolidation

    def begin_consolidation(
        self,
        source: ArrivingWeights,
        receiver: KvReceiver,
        options: ConsolidationOptions,
        events: ConsolidationEvents,
    ) -> None:
        """Become the whole model, in the background: load the layers that the other stages have,
        take over the keys and values of what runs, leave the pipeline. For the owner.

        What fails is told to `events`, and leaves the pipeline as it is.
        """
        assert self._executor.place.num_stages > 1, "it is the whole model already"
        self.abandon_consolidation("another one begins")
        self._consolidation = Consolidation(
            self._executor,
            self._pipeline,
            self._schedule,
            source,
            receiver,
            options,
            events,
            prefill_s_per_token=lambda: self._statistics.prefill_s_per_token,
        )
        self._pauses = PauseMeter(events, monotonic)

    def abandon_consolidation(self, why: str) -> None:
        """Stay a pipeline; nothing if it is one no more. For the owner."""
        if self._consolidation is not None:
            self._consolidation.abandon(why)
            self._consolidation = self._pauses = None

    def _consolidate(self, consolidation: Consolidation) -> None:
        assert self._pauses is not None, "they are begun together"
        if consolidation.advance():
            running = tuple(self._schedule.running)
            self._switch_to(consolidation.finish())
            self._pauses.switch(running)
            self._consolidation = None
        elif consolidation.has_ended:
            self._consolidation = self._pauses = None

    def _switch_to(self, whole: Executor) -> None:
        self._executor, self._pipeline = whole, Pipeline(whole, Loopback(), NoEvents())
        self._schedule.set_num_batches(1)
        self._statistics.begin_anew(whole.cache.bytes_per_token)

    def _forget_ended(self, pauses: PauseMeter) -> None:
        pauses.keep_only(self._requests.living)
        if pauses.has_ended:
            self._pauses = None

    # -------------------------------------------------------------------------- steps

    def _launch(self) -> Many[Chunk]:
        consolidation = self._consolidation
        if not self._pipeline.has_room or (consolidation is not None and consolidation.is_frozen):
            return ()
        plan = self._schedule.plan()
        if plan.chunks:
            exports = () if consolidation is None else consolidation.exports()
            batch = self._pipeline.launch(plan, exports)
            if consolidation is not None:
                consolidation.apply(batch.moves)
        assert plan.chunks or not plan.moves, "who was moved decodes"
        return plan.chunks

    def _collect(self, timeout_s: float) -> Returned | None:
        consolidation = self._consolidation
        if consolidation is not None and consolidation.is_frozen:
            timeout_s = min(timeout_s, consolidation.wait_s)
        match self._pipeline.collect(timeout_s):
            case None | Returned() as returned:
                return returned
            case notice:
                if consolidation is not None:
                    consolidation.note(notice)
                return None

    def _complete(self, returned: Returned) -> list[Output]:
        """Tokens of what came back; a sequence that ended meanwhile gets none."""
        self._schedule.complete(returned.chunks)
        if returned.logits is None:
            return []
        tokens = sample(returned.logits, [self._requests.draw(s) for s in returned.sampled])
        if self._pauses is not None:
            self._pauses.note(s for s in returned.sampled if s.region is not None)
        return [
            self._requests.append(sequence, token)
            for sequence, token in zip(returned.sampled, tokens, strict=True)
            if sequence.region is not None
        ]
