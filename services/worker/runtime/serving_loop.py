"""The main loop of a worker that serves: frames to its engine, a step, tokens to the agent."""

import time
from collections.abc import Callable
from typing import NoReturn

from libs.common.states import FinishReason
from services.worker.engine_port import Engine, Output, Request
from services.worker.errors import RequestRefused
from services.worker.frames.consolidation import AbandonConsolidation, Consolidate
from services.worker.frames.frames import (
    CancelGeneration,
    DecodeTime,
    GenerateTokens,
    Ready,
    StatsChanged,
    TokenLogprob,
    TokensProduced,
    ToWorker,
)
from services.worker.runtime.channel import Channel
from services.worker.runtime.consolidation.port import Consolidations, NoConsolidations
from services.worker.runtime.prefill_steps import FirstAnswer
from services.worker.runtime.start_steps import StartSteps

STATS_INTERVAL_S = 0.2  # at most this often
STEP_TIME_INTERVAL_S = 1.0  # while only the time of the steps changes
IDLE_WAIT_S = 1.0
BACKGROUND_WAIT_S = 0.02  # while the engine has something to do beside requests
LEAST_LOGPROB = -9999.0  # stands for minus infinity, which JSON cannot say


class ServingLoop:
    """Of an entry stage or a whole model; runs in the thread that owns the engine.

    `wait_linked` returns when the neighbours are there, at once where there are none. `is_loaded`:
    it serves at once, and says so to nobody.
    """

    def __init__(
        self,
        engine: Engine,
        channel: Channel,
        steps: StartSteps,
        answer: FirstAnswer,
        wait_linked: Callable[[], None] = lambda: None,
        consolidations: Consolidations | None = None,
        *,
        is_loaded: bool = False,
    ) -> None:
        self._consolidations: Consolidations = consolidations or NoConsolidations()
        self._engine, self._channel, self._steps = engine, channel, steps
        self._first_answer = answer
        self._wait_linked, self._is_loaded = wait_linked, is_loaded
        self._reported = StatsChanged(0, 0, 0)
        self._reported_at_s = 0.0

    def run(self) -> NoReturn:
        """Never returns; what it raises ends the process."""
        self._channel.notify(self._engine.wake)
        if not self._is_loaded:
            self._load()
        while True:
            self._channel.progress.note()
            self._channel.compute.between_steps()
            self._take_frames(can_wait=not self._engine.optimize_step())
            self._step()

    def _load(self) -> None:
        """Get ready. A request that waits already is computed layer by layer as weights arrive."""
        with self._steps.step("load"):
            self._step_early()
            for _ in self._engine.load_units():
                self._step_early()
        self._wait_linked()
        self._channel.send(Ready())

    def _step_early(self) -> None:
        if self._take_waiting() or not self._engine.is_idle:
            self._step()

    def _take_frames(self, *, can_wait: bool) -> None:
        if self._engine.is_idle and can_wait:
            wait_s = self._report_due_s()
            if self._consolidations.is_under_way:
                wait_s = min(wait_s, BACKGROUND_WAIT_S)
            frame = self._channel.receive(wait_s)
            if frame is None:
                self._report()
                return
            self._take(frame)
        self._take_waiting()

    def _take_waiting(self) -> int:
        """Hand over whatever has come; the number of frames."""
        count = 0
        while (frame := self._channel.receive(0)) is not None:
            self._take(frame)
            count += 1
        return count

    def _take(self, frame: ToWorker) -> None:
        match frame:
            case GenerateTokens():
                self._add(frame)
            case CancelGeneration(request_id, attempt):
                self._engine.cancel(request_id, attempt)
            case Consolidate():
                self._consolidations.begin(frame)
            case AbandonConsolidation():
                self._consolidations.abandon(frame)
            case _:
                raise AssertionError(f"a second {type(frame).__name__}")

    def _add(self, frame: GenerateTokens) -> None:
        try:
            self._engine.add_request(engine_request(frame))
            self._first_answer.prefill.begin()
        except RequestRefused as exc:
            index = len(frame.generated_ids)
            self._channel.send(
                TokensProduced(
                    *(frame.request_id, frame.attempt, index, ()),
                    finish=FinishReason.ERROR,
                    error=exc.reason,
                )
            )

    def _step(self) -> None:
        for output in self._engine.step():
            self._first_answer.prefill.end()
            self._channel.send(tokens_frame(output))
            self._first_answer.head.end()
        self._report()

    @property
    def _load_now(self) -> StatsChanged:
        stats = self._engine.stats
        return StatsChanged(
            *(stats.num_running, stats.num_waiting, stats.kv_used_bytes, stats.kv_capacity_bytes),
            step_us=round(stats.mean_step_s * 1e6),
            prefill_us_per_token=_prefill_us(stats.prefill_s_per_token),
            decode_times=tuple(
                DecodeTime(time.batch, max(1, round(time.mean_s * 1e6)))
                for time in stats.decode_times
            ),
        )

    def _report(self) -> None:
        """Tell the load when it changed, a few times a second at most; the time of steps rarer."""
        current, now_s = self._load_now, time.monotonic()
        silent_s = now_s - self._reported_at_s
        is_load_due = current != self._reported and silent_s >= STATS_INTERVAL_S
        has_new_time = current.step_us != self._reported.step_us
        if is_load_due or (has_new_time and silent_s >= STEP_TIME_INTERVAL_S):
            self._channel.send(current)
            self._reported, self._reported_at_s = current, now_s

    def _report_due_s(self) -> float:
        """How long an idle engine may wait before the last change must be told."""
        if self._load_now == self._reported:
            return IDLE_WAIT_S
        return max(0.001, self._reported_at_s + STATS_INTERVAL_S - time.monotonic())


def engine_request(frame: GenerateTokens) -> Request:
    return Request(
        request_id=frame.request_id,
        attempt=frame.attempt,
        prompt_ids=tuple(frame.prompt_ids),
        sampling=frame.sampling,
        generated_ids=tuple(frame.generated_ids),
    )


def tokens_frame(output: Output) -> TokensProduced:
    logprobs = output.logprobs
    return TokensProduced(
        request_id=output.request_id,
        attempt=output.attempt,
        start_index=output.start_index,
        ids=output.token_ids,
        logprobs=None
        if logprobs is None
        else tuple(
            TokenLogprob(_finite(entry.logprob), tuple((i, _finite(p)) for i, p in entry.top))
            for entry in logprobs
        ),
        finish=output.finish,
        error=output.error,
    )


def _prefill_us(s_per_token: float | None) -> float | None:
    """With the digits that mean anything."""
    return None if not s_per_token else float(f"{s_per_token * 1e6:.4g}")


def _finite(logprob: float) -> float:
    return max(logprob, LEAST_LOGPROB)
