"""An engine that computes nothing: requests take turns and get a token per step, in their time."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from benchmarks.controlplane.hollow.settings import TokenDurations
from libs.common.states import FinishReason
from services.worker.errors import RequestRefused
from services.worker.frames.frames import (
    GenerateTokens,
    StartWorker,
    StatsChanged,
    ToAgent,
    TokensProduced,
)
from services.worker.runtime.prefill_steps import FirstAnswer

STATS_INTERVAL_S = 0.2  # as real ones: at most this often
FIRST_TOKEN_ID, NUM_TOKEN_IDS = 35, 64  # letters and the like in any vocabulary


@dataclass
class _Sequence:
    frame: GenerateTokens
    limit: int  # of generated tokens, of all attempts
    num_generated: int
    next_at_s: float = 0.0  # when its next token is due, once it runs

    @property
    def num_tokens(self) -> int:
        return len(self.frame.prompt_ids) + self.num_generated


class HollowEngine:
    """For one event loop. What `add` has queued begins when `run` is called."""

    def __init__(
        self,
        start: StartWorker,
        durations: TokenDurations,
        chance: Random,
        send: Callable[[ToAgent], None],
        answer: FirstAnswer,
        prefill_begins: Callable[[float], None] | None = None,
    ) -> None:
        """`prefill_begins` is told how long the first one takes; of several stages each has a part
        of it."""
        self._start, self._durations, self._chance = start, durations, chance
        self._send, self._answer = send, answer
        self._prefill_begins = prefill_begins
        self._waiting: deque[_Sequence] = deque()
        self._running: dict[str, _Sequence] = {}  # by request
        self._arrived = asyncio.Event()
        self._reported, self._reported_at_s = StatsChanged(0, 0, 0), 0.0
        self._reporting: asyncio.TimerHandle | None = None
        self._step_us = 0

    @property
    def _max_context_tokens(self) -> int:
        """What the cache cannot hold is not served."""
        start = self._start
        return min(start.max_context_tokens, start.kv_tokens or start.max_context_tokens)

    def add(self, frame: GenerateTokens) -> None:
        """A newer attempt replaces an older one."""
        try:
            limit = self._limit(frame)
        except RequestRefused as exc:
            self._end(frame, len(frame.generated_ids), FinishReason.ERROR, exc.reason)
            return
        self.cancel(frame.request_id, frame.attempt - 1)
        self._answer.prefill.begin()
        self._waiting.append(_Sequence(frame, limit, len(frame.generated_ids)))
        self._arrived.set()
        self._report()

    def cancel(self, request_id: str, attempt: int) -> None:
        """End that attempt, or an older one; nothing if it is not here."""
        for sequence in [*self._waiting, *self._running.values()]:
            frame = sequence.frame
            if frame.request_id == request_id and frame.attempt <= attempt:
                self._forget(sequence)
                self._end(frame, sequence.num_generated, FinishReason.CANCELLED)
        self._report()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._admit()
            if not self._running:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            due_at_s = min(sequence.next_at_s for sequence in self._running.values())
            await asyncio.sleep(max(0.0, due_at_s - time.monotonic()))
            self._step()

    def close(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._start.max_slots:
            sequence = self._waiting.popleft()
            prefill_s = self._durations.prefill.drawn_s(self._chance)
            sequence.next_at_s = time.monotonic() + prefill_s
            self._running[sequence.frame.request_id] = sequence
            if self._prefill_begins is not None:
                self._prefill_begins, begins = None, self._prefill_begins
                begins(prefill_s)
        self._report()

    def _step(self) -> None:
        """A token for each whose turn it is; those that come together stay together."""
        now_s, step_s = time.monotonic(), self._durations.step.drawn_s(self._chance)
        self._step_us = round(step_s * 1e6)
        for sequence in tuple(self._running.values()):
            if sequence.next_at_s <= now_s:
                self._produce(sequence)
                sequence.next_at_s = now_s + step_s
        self._report()

    def _produce(self, sequence: _Sequence) -> None:
        frame, index = sequence.frame, sequence.num_generated
        sequence.num_generated += 1
        is_last = sequence.num_generated >= sequence.limit
        if is_last:
            self._forget(sequence)
        if self._start.num_stages == 1:
            self._answer.prefill.end()
        self._send(
            TokensProduced(
                *(frame.request_id, frame.attempt, index),
                ids=(FIRST_TOKEN_ID + index % NUM_TOKEN_IDS,),
                finish=FinishReason.LENGTH if is_last else None,
            )
        )
        self._answer.head.end()

    def _limit(self, frame: GenerateTokens) -> int:
        """Raises RequestRefused for what can never be served."""
        max_tokens = self._max_context_tokens
        num_tokens = len(frame.prompt_ids) + len(frame.generated_ids)
        if num_tokens >= max_tokens:
            reason = f"{num_tokens} tokens leave no room to generate in a context of {max_tokens}"
            raise RequestRefused(frame.request_id, reason)
        return min(frame.sampling.max_tokens, max_tokens - len(frame.prompt_ids))

    def _end(
        self, frame: GenerateTokens, index: int, reason: FinishReason, error: str | None = None
    ) -> None:
        ids = (frame.request_id, frame.attempt)
        self._send(TokensProduced(*ids, index, (), finish=reason, error=error))

    def _forget(self, sequence: _Sequence) -> None:
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        if self._running.get(sequence.frame.request_id) is sequence:
            del self._running[sequence.frame.request_id]

    def _load_now(self) -> StatsChanged:
        start, num_tokens = self._start, sum(s.num_tokens for s in self._running.values())
        used_bytes = start.kv_bytes * num_tokens // start.kv_tokens if start.kv_tokens else 0
        return StatsChanged(
            *(len(self._running), len(self._waiting), used_bytes, start.kv_bytes),
            step_us=self._step_us,
        )

    def _report(self) -> None:
        """Tell the load when it changed, a few times a second at most."""
        if self._reporting is None and self._load_now() != self._reported:
            wait_s = max(0.0, self._reported_at_s + STATS_INTERVAL_S - time.monotonic())
            loop = asyncio.get_running_loop()
            self._reporting = loop.call_later(wait_s, self._tell_load)

    def _tell_load(self) -> None:
        self._reporting, self._reported_at_s = None, time.monotonic()
        self._reported = self._load_now()
        self._send(self._reported)
