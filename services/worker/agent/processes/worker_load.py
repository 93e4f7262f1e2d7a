"""What a worker last said of its load."""

from dataclasses import dataclass

from services.worker.frames.frames import StatsChanged


@dataclass(frozen=True)
class WorkerLoad:
    num_running: int = 0
    kv_used_bytes: int = 0
    kv_capacity_bytes: int = 0
    step_us: int = 0  # 0: it has computed nothing yet, or follows another stage
    progress: int = 0
    compute_share: float | None = None
    compute_demand: float | None = None

    @classmethod
    def of(cls, frame: StatsChanged) -> "WorkerLoad":
        return cls(
            num_running=frame.num_running,
            kv_used_bytes=frame.kv_used_bytes,
            kv_capacity_bytes=frame.kv_capacity_bytes,
            step_us=frame.step_us,
            progress=frame.progress,
            compute_share=_fraction(frame.compute_share),
            compute_demand=_fraction(frame.compute_demand),
        )


def _fraction(value: float | None) -> float | None:
    """Between 0 and 1, whatever a worker process says: else its node's heartbeats were invalid."""
    return None if value is None else max(0.0, min(1.0, value))
