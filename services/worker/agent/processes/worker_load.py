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

    @classmethod
    def of(cls, frame: StatsChanged) -> "WorkerLoad":
        return cls(
            num_running=frame.num_running,
            kv_used_bytes=frame.kv_used_bytes,
            kv_capacity_bytes=frame.kv_capacity_bytes,
            step_us=frame.step_us,
            progress=frame.progress,
        )
