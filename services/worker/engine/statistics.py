"""Counts what an engine does, for heartbeats and metrics."""

from collections.abc import Sequence as Many

from services.worker.engine.execution.pipeline import Returned
from services.worker.engine.scheduling.batch import Chunk
from services.worker.engine.scheduling.schedule import Schedule
from services.worker.engine.scheduling.step_meter import StepMeter
from services.worker.engine_port import EngineStats, Output


class EngineStatistics:
    """`stats` may be read by any thread."""

    def __init__(self, *, num_slots: int, kv_bytes_per_token: int) -> None:
        self._meter = StepMeter()
        self._kv_bytes_per_token = kv_bytes_per_token
        self.stats = EngineStats(kv_capacity_bytes=num_slots * kv_bytes_per_token)

    @property
    def prefill_s_per_token(self) -> float | None:
        return self._meter.prefill_s_per_token

    def begin_anew(self, kv_bytes_per_token: int) -> None:
        """Other layers compute from now on: how long steps took says nothing of them."""
        self._meter, self._kv_bytes_per_token = StepMeter(), kv_bytes_per_token

    def launched(self, chunks: Many[Chunk], since_s: float, *, is_alone: bool) -> None:
        if chunks:
            self._meter.launched(chunks, since_s, is_alone=is_alone)

    def returned(self, returned: Returned, now_s: float) -> None:
        self._meter.returned(returned.chunks, now_s, is_sampled=bool(returned.sampled))

    def count(
        self, chunks: Many[Chunk], outputs: list[Output], step_s: float, schedule: Schedule
    ) -> None:
        """A step that launched these chunks and gave these outputs."""
        last = self.stats
        if chunks:
            self._meter.note_step(step_s)
        self.stats = EngineStats(
            num_running=schedule.num_running,
            num_waiting=schedule.num_waiting,
            kv_used_bytes=schedule.num_kv_slots_used * self._kv_bytes_per_token,
            kv_capacity_bytes=schedule.num_kv_slots * self._kv_bytes_per_token,
            num_steps=last.num_steps + bool(chunks),
            num_tokens_computed=last.num_tokens_computed + sum(c.length for c in chunks),
            num_tokens_generated=last.num_tokens_generated
            + sum(len(output.token_ids) for output in outputs),
            mean_step_s=self._meter.mean_step_s,
            prefill_s_per_token=self._meter.prefill_s_per_token,
            decode_times=self._meter.decode_times(is_idle=schedule.is_empty),
        )
