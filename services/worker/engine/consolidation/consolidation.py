"""An entry stage's way to the whole model, beside the pipeline that it runs.

LOADING: the layers that it lacks are loaded, and made fast, between steps. OPENING: every stage
hears where keys and values go. COPYING: they come while the pipeline goes on. FROZEN: the pipeline
launches nothing more; what is in flight comes back, the last keys and values come, and the whole
model takes over. If they do not come in time the pipeline goes on, and it is tried again later.

A crash at any point leaves the pipeline as it is or ends it: nothing of a request is ever here
alone before the switch, which this stage decides by itself.
"""

import time
from collections.abc import Callable
from enum import Enum, auto
from math import inf
from typing import Final

import torch

from services.worker.engine.consolidation.kv_inflow import KvInflow
from services.worker.engine.consolidation.kv_ports import KvReceiver
from services.worker.engine.consolidation.options import ConsolidationOptions
from services.worker.engine.consolidation.transfer import USUAL_BYTES_PER_S, plan_transfer
from services.worker.engine.consolidation.whole_loading import WholeLoading
from services.worker.engine.consolidation.work_pace import WorkPace
from services.worker.engine.execution.executor import Executor
from services.worker.engine.execution.microbatch import KvExport, SlotMove
from services.worker.engine.execution.notices import KvInletOpened, Notice, RingClosed
from services.worker.engine.execution.pipeline import Pipeline
from services.worker.engine.model.weights import ArrivingWeights
from services.worker.engine.scheduling.schedule import Schedule
from services.worker.engine_port import ConsolidationEvents, CopyPlan, KvTransfer, Switched
from services.worker.errors import WorkerError

FIRST_TAIL_S: Final = 0.03  # for which the switch may wait for keys and values at first;
TAIL_GROWTH: Final = 0.03  # so much more for each second of copying,
MAX_TAIL_S: Final = 0.25  # up to this
BLOCK_WAIT_S: Final = 0.05
MAX_FREEZES: Final = 4


class Phase(Enum):
    LOADING = auto()
    OPENING = auto()
    COPYING = auto()
    FROZEN = auto()
    ENDED = auto()


class Consolidation:
    """For the thread that owns the engine, without gradients."""

    def __init__(
        self,
        stage: Executor,
        pipeline: Pipeline,
        schedule: Schedule,
        source: ArrivingWeights,
        receiver: KvReceiver,
        options: ConsolidationOptions,
        events: ConsolidationEvents,
        *,
        prefill_s_per_token: Callable[[], float | None] = lambda: None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stage, self._pipeline, self._schedule = stage, pipeline, schedule
        self._source, self._receiver = source, receiver
        self._options, self._events = options, events
        self._prefill_s_per_token, self._monotonic_s = prefill_s_per_token, monotonic_s
        self._phase, self._since_s = Phase.LOADING, monotonic_s()
        self._pace = WorkPace(options.busy_share, monotonic_s)
        self._loading: WholeLoading | None = None
        self._plan: CopyPlan | None = None
        self._inflow: KvInflow | None = None
        self._inlet: KvInletOpened | None = None  # None: nothing is moved
        self._num_freezes = self._precopied_bytes = 0
        self._retry_at_s = -inf
        self._drained_at_s: float | None = None

    @property
    def is_frozen(self) -> bool:
        """Nothing may be launched."""
        return self._phase is Phase.FROZEN

    @property
    def has_ended(self) -> bool:
        """It was given up."""
        return self._phase is Phase.ENDED

    @property
    def wait_s(self) -> float:
        """How long a step may wait while frozen."""
        return max(0.0, self._since_s + self._options.freeze_timeout_s - self._monotonic_s())

    # ------------------------------------------------------------------ between steps

    def load_next(self, *, is_busy: bool) -> bool:
        """Some milliseconds of loading, if it is its turn beside the steps of a busy engine; False
        when there is nothing to do now."""
        if self._phase is not Phase.LOADING or not self._stage.is_loaded:
            return False
        try:
            return self._pace.run(self._load_next, is_busy=is_busy)
        except torch.AcceleratorError:  # the device is broken, for the pipeline too
            raise
        except (WorkerError, RuntimeError) as exc:  # RuntimeError: there is no memory for it
            self.abandon(str(exc).splitlines()[0])
            return False

    def _load_next(self) -> bool:
        if self._loading is None:
            packed_bytes = self._options.packed_bytes
            self._loading = WholeLoading(self._stage, self._source, packed_bytes=packed_bytes)
            return True
        has_worked = self._loading.load_next()
        if self._loading.is_complete and self._monotonic_s() >= self._retry_at_s:
            if self._plan is None:
                self._events.loaded()
            self._begin_copy(self._loading.executor)
        return has_worked

    def _begin_copy(self, whole: Executor) -> None:
        self._inflow = KvInflow(
            self._receiver, self._schedule, whole=whole.cache, stage=self._stage.cache
        )
        plan = self._plan = plan_transfer(
            self._schedule.running,
            bytes_per_token=self._inflow.bytes_per_token,
            link_bytes_per_s=self._options.link_bytes_per_s,
            prefill_s_per_token=self._prefill_s_per_token(),
            transfer=self._options.transfer,
        )
        self._events.copying(plan)
        if plan.transfer is KvTransfer.RECOMPUTE or plan.num_sequences == 0:
            self._freeze()
        else:
            self._inlet = self._receiver.open()
            self._enter(Phase.OPENING)
            self._pipeline.tell(self._inlet)

    def note(self, notice: Notice) -> None:
        """A notice has been to all stages."""
        if self._phase is not Phase.OPENING or not isinstance(notice, KvInletOpened):
            return  # of one that was abandoned
        assert self._inlet is not None
        if notice.address == self._inlet.address:
            self._receiver.admit(notice)
            self._enter(Phase.COPYING)

    def advance(self) -> bool:
        """Before each step. True: the whole model shall take over now, see `finish`."""
        try:
            return self._advance()
        except WorkerError as exc:
            self.abandon(str(exc))
            return False

    def _advance(self) -> bool:
        if self._phase is Phase.OPENING and self._is_late(self._options.open_timeout_s):
            self.abandon("the other stages do not answer")
        if self._phase is Phase.COPYING:
            self._kv.take(0.0)
            if self._monotonic_s() >= self._retry_at_s and self._is_little_left():
                self._freeze()
            elif self._is_late(self._options.copy_timeout_s):
                self.abandon("keys and values come slower than new ones are made")
        return self.is_frozen and self._can_switch()

    # ------------------------------------------------------------------- while it copies

    def exports(self) -> tuple[KvExport, ...]:
        """What the micro-batch that is about to be launched shall ask for."""
        return self._kv.exports() if self._phase is Phase.COPYING else ()

    def apply(self, moves: tuple[SlotMove, ...]) -> None:
        """The stage has moved sequences to other slots."""
        if self._inflow is not None:
            self._inflow.apply(moves)

    def _is_little_left(self) -> bool:
        """Whether what is left comes so soon that the pipeline may stop for it."""
        copying_s = self._monotonic_s() - self._since_s
        allowed_s = min(MAX_TAIL_S, FIRST_TAIL_S + TAIL_GROWTH * copying_s)
        bytes_per_s = self._options.link_bytes_per_s or USUAL_BYTES_PER_S
        return self._kv.num_bytes_left / bytes_per_s <= allowed_s

    # ---------------------------------------------------------------------- the switch

    def _freeze(self) -> None:
        self._num_freezes += 1
        self._enter(Phase.FROZEN)
        self._drained_at_s, self._precopied_bytes = None, self._kv.num_bytes
        self._events.freezing()
        self._launch_last_exports()

    def _launch_last_exports(self) -> None:
        if self._inlet is not None and (exports := self._kv.last_exports()):
            self._pipeline.launch_exports(exports)

    def _can_switch(self) -> bool:
        if self._pipeline.is_empty:
            if self._drained_at_s is None:
                self._drained_at_s = self._monotonic_s()
            if self._is_all_here():
                return True
            if not self._kv.take(min(self.wait_s, BLOCK_WAIT_S)):
                self._launch_last_exports()
            elif self._is_all_here():
                return True
        if self._is_late(self._options.freeze_timeout_s):
            self._unfreeze()
        return False

    def _is_all_here(self) -> bool:
        return self._inlet is None or self._kv.num_bytes_left == 0

    @property
    def _kv(self) -> KvInflow:
        assert self._inflow is not None, "it has been loaded"
        return self._inflow

    def _unfreeze(self) -> None:
        doing = "draining" if self._drained_at_s is None else "moving the last keys and values"
        why = f"{doing} took longer than {self._options.freeze_timeout_s} s"
        if self._num_freezes >= MAX_FREEZES:
            self.abandon(f"{why}, {self._num_freezes} times")
            return
        # Without a move it is planned anew: sequences that came meanwhile may be worth one.
        self._enter(Phase.COPYING if self._inlet else Phase.LOADING)
        self._retry_at_s = self._since_s + self._options.retry_s * 2 ** (self._num_freezes - 1)
        self._events.unfrozen(why)

    def finish(self) -> Executor:
        """Leave the pipeline for good; the executor of the whole model. Nothing is in flight.

        What is running and not here computes its tokens again.
        """
        assert self._loading is not None and self._plan is not None
        assert self._drained_at_s is not None and self._pipeline.is_empty
        now_s, running = self._monotonic_s(), tuple(self._schedule.running)
        self._phase = Phase.ENDED
        self._receiver.close()
        self._pipeline.tell(RingClosed(self._options.generation))
        recomputed = () if self._inlet else running
        for sequence in recomputed:
            self._schedule.restart(sequence)
        self._events.switched(
            Switched(
                KvTransfer.RECOMPUTE if recomputed else KvTransfer.MOVE,
                num_sequences=len(running),
                precopied_bytes=self._precopied_bytes,
                moved_bytes=self._kv.num_bytes - self._precopied_bytes,
                drain_s=self._drained_at_s - self._since_s,
                move_s=now_s - self._drained_at_s,
                num_recomputed=len(recomputed),
            )
        )
        return self._loading.executor

    def abandon(self, why: str) -> None:
        """The pipeline stays; nothing if it has ended already."""
        if self._phase is Phase.ENDED:
            return
        self._phase = Phase.ENDED
        self._receiver.close()
        self._loading = self._inflow = None
        self._events.abandoned(why)

    def _enter(self, phase: Phase) -> None:
        self._phase, self._since_s = phase, self._monotonic_s()

    def _is_late(self, timeout_s: float) -> bool:
        return self._monotonic_s() > self._since_s + timeout_s
