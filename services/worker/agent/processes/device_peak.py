"""Measures what a worker process takes of its GPU beside weights and KV cache."""

from libs.common.bus.messages import WorkerSpec
from services.worker.agent.engine_meter import EngineMeter


class DevicePeak:
    """Of one process that serves and has computed."""

    def __init__(self, meter: EngineMeter) -> None:
        self._meter = meter
        self._peak_bytes: int | None = None

    def note(self, spec: WorkerSpec, used_bytes: int) -> None:
        """`used_bytes`: all that it takes now."""
        planned_bytes = spec.device_bytes - spec.worker_bytes - spec.spare_bytes  # weights, KV
        own_bytes = max(0, used_bytes - planned_bytes)
        self._peak_bytes = max(own_bytes, self._peak_bytes or 0)
        self._meter.note_worker_bytes(spec.engine, self._peak_bytes, has_ended=False)

    def end(self, spec: WorkerSpec) -> None:
        """The process has ended."""
        if self._peak_bytes is not None:
            self._meter.note_worker_bytes(spec.engine, self._peak_bytes, has_ended=True)
