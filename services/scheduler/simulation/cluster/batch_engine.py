"""The engine of one endpoint: prefills one prompt after the other, and decodes what is prefilled as
one batch.

A prefill begins at the next boundary of a step, and nobody decodes meanwhile. Between two changes
of the batch all steps take the same time, so that only changes are events: the times are those that
a simulation of each step would give.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from math import floor

from services.scheduler.simulation.cluster.compute import StageCompute
from services.scheduler.simulation.cluster.early_prefill import EarlyPrefill
from services.scheduler.simulation.cluster.pipeline_speed import PipelineSpeed
from services.scheduler.simulation.cluster.request import SimulatedRequest
from services.scheduler.simulation.event_queue import Event, EventQueue

_HAIR = 1e-6  # of a step, by which rounding may miss a boundary


@dataclass(frozen=True, eq=False)
class _Successor:
    """The stages that an engine goes on with, after a pause."""

    stages: Sequence[StageCompute]
    pause_s: float
    on_switched: Callable[[], None]


class BatchEngine:
    """`on_end` is called when a request has its last token, after the engine went on."""

    def __init__(
        self,
        events: EventQueue,
        stages: Sequence[StageCompute],
        hop_s: float,
        on_end: Callable[[SimulatedRequest], None],
        prompt_hop_s: float | None = None,  # None: as `hop_s`
    ) -> None:
        of_prompts_s = hop_s if prompt_hop_s is None else prompt_hop_s
        self._pipeline = PipelineSpeed(tuple(stages), hop_s, of_prompts_s)
        self.idle_since_s = 0.0
        self.num_requests = 0  # that it has, running and waiting
        self._events, self._on_end = events, on_end
        self._is_ready = False
        self._is_over = False
        self._successor: _Successor | None = None
        self._early: EarlyPrefill | None = None
        self._waiting: deque[SimulatedRequest] = deque()
        self._decoding: list[tuple[int, int, SimulatedRequest]] = []  # by their last step
        self._prefilling: SimulatedRequest | None = None
        self._is_computing = False
        self._done = 0.0  # steps since the engine is there; of a prefill, the part
        self._steps = 0  # steps when the prefill began
        self._rate = 0.0  # of `_done`, per second
        self._at_s = 0.0  # of `_done`
        self._event: Event | None = None

    @property
    def num_running(self) -> int:
        return len(self._decoding) + (self._prefilling is not None)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def start(self, early: EarlyPrefill | None = None) -> None:
        """All stages can compute. `early`: what was done of a prompt that waits."""
        self._is_ready, self._early = True, early
        self.idle_since_s = self._events.now_s
        if self._waiting:
            self._begin_next()

    def accept(self, request: SimulatedRequest) -> None:
        self._waiting.append(request)
        self.num_requests += 1
        if not self._is_ready:
            return
        if not self._is_computing:
            self._begin_next()
        elif self._prefilling is None and len(self._waiting) == 1:
            self._bring_up_to_date()
            self._plan_end()

    def replace_stages(
        self, stages: Sequence[StageCompute], pause_s: float, on_switched: Callable[[], None]
    ) -> None:
        """At the next boundary all requests go on on these, where they have come to, after a
        pause."""
        self._successor = _Successor(tuple(stages), pause_s, on_switched)
        if not self._is_computing:
            self._switch(self._successor)
        elif self._prefilling is None:
            self._bring_up_to_date()
            self._plan_end()

    def abort(self) -> list[SimulatedRequest]:
        """Stop for good; the requests that it had."""
        lost = [*self._waiting, *(entry[2] for entry in sorted(self._decoding))]
        if self._prefilling is not None:
            lost.append(self._prefilling)
        self._waiting.clear()
        self._decoding.clear()
        self._prefilling = None
        self.num_requests = 0
        self._rest()
        self._is_ready, self._is_over = False, True
        return lost

    # ------------------------------------------------------------------ phases

    def _begin_next(self) -> None:
        """At a boundary: a prompt if any waits, else steps of those that decode."""
        if self._successor is not None:
            self._switch(self._successor)
            return
        if not self._is_computing and (self._waiting or self._decoding):
            self._is_computing = True
            for stage in self._pipeline.stages:
                stage.device.begin(stage, self._share_changed)
        self._at_s = self._events.now_s
        if self._waiting:
            self._steps = round(self._done)
            self._prefilling = self._waiting.popleft()
            early, self._early = self._early, None
            self._done = 0.0 if early is None else early.done_of(self._prefilling, self._pipeline)
        elif not self._decoding:
            self._rest()
            return
        self._set_duties()
        self._rate = self._rate_now()
        self._plan_end()

    def _switch(self, successor: _Successor) -> None:
        self._successor, self._is_ready = None, False
        if self._is_computing and not self.num_requests:
            self.idle_since_s = self._events.now_s
        self._stop_computing()
        self._events.after(successor.pause_s, partial(self._go_on_with, successor))

    def _go_on_with(self, successor: _Successor) -> None:
        if self._is_over:
            return
        before = self._pipeline
        stages = tuple(successor.stages)
        self._pipeline = PipelineSpeed(stages, before.hop_s, before.prompt_hop_s)
        self._is_ready = True
        if self._waiting or self._decoding:
            self._begin_next()
        successor.on_switched()

    def _rest(self) -> None:
        self.idle_since_s = self._events.now_s
        self._stop_computing()

    def _stop_computing(self) -> None:
        if self._event is not None:
            self._event.cancel()
            self._event = None
        if self._is_computing:
            self._is_computing = False
            for stage in self._pipeline.stages:
                stage.device.end(stage)

    def _plan_end(self) -> None:
        """Of what is being done: the prefill, or the steps until a request ends or one waits."""
        if self._event is not None:
            self._event.cancel()
        left = max(0.0, self._end_at() - self._done)
        self._event = self._events.at(self._at_s + left / self._rate, self._end_phase)

    def _end_at(self) -> float:
        if self._prefilling is not None:
            return 1.0
        last = self._decoding[0][0]
        is_awaited = self._waiting or self._successor is not None
        return min(last, _boundary(self._done)) if is_awaited else last

    def _end_phase(self) -> None:
        self._event = None
        if self._prefilling is not None:
            self._end_prefill(self._prefilling)
            return
        self._done = float(self._end_at())
        ended = []
        while self._decoding and self._decoding[0][0] <= self._done:
            ended.append(heappop(self._decoding)[2])
        self._go_on(ended)

    def _end_prefill(self, request: SimulatedRequest) -> None:
        """It has its first token."""
        self._prefilling, self._done = None, float(self._steps)
        request.first_token_at_s = self._events.now_s
        if request.num_output_tokens == 1:
            self._go_on([request])
            return
        last_step = self._steps + request.num_output_tokens - 1
        heappush(self._decoding, (last_step, request.index, request))
        self._begin_next()

    def _go_on(self, ended: list[SimulatedRequest]) -> None:
        self.num_requests -= len(ended)
        for request in ended:
            request.ended_at_s = self._events.now_s
        self._begin_next()
        for request in ended:
            self._on_end(request)

    # ------------------------------------------------------------------- speed

    def _share_changed(self) -> None:
        """Another worker on one of the devices began or ceased to compute."""
        if not self._is_computing or self._event is None:
            return
        self._bring_up_to_date()
        self._rate = self._rate_now()
        self._plan_end()

    def _bring_up_to_date(self) -> None:
        now_s = self._events.now_s
        self._done += self._rate * (now_s - self._at_s)
        self._at_s = now_s

    def _rate_now(self) -> float:
        if self._prefilling is not None:
            return 1.0 / self._pipeline.prefill_s(self._prefilling.num_prompt_tokens)
        return 1.0 / self._pipeline.step_s(len(self._decoding))

    def _set_duties(self) -> None:
        """For which part of the time each stage of a pipeline computes, if nobody disturbs it."""
        self._pipeline.set_duties(1 if self._prefilling is not None else len(self._decoding))


def _boundary(done: float) -> float:
    """The end of the step that is being computed; `done` itself between two steps."""
    nearest = round(done)
    return float(nearest) if abs(done - nearest) < _HAIR else floor(done) + 1.0
