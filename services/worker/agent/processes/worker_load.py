"""What a worker last said of its load."""

from dataclasses import dataclass

from pydantic import ValidationError

from libs.common.bus.messages import DecodeTime, EngineSpeed
from services.worker.errors import FrameError
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
    speed: EngineSpeed | None = None  # as of `step_us`

    @classmethod
    def of(cls, frame: StatsChanged) -> "WorkerLoad":
        """Raises FrameError for a speed that no engine has."""
        return cls(
            num_running=frame.num_running,
            kv_used_bytes=frame.kv_used_bytes,
            kv_capacity_bytes=frame.kv_capacity_bytes,
            step_us=frame.step_us,
            progress=frame.progress,
            compute_share=_fraction(frame.compute_share),
            compute_demand=_fraction(frame.compute_demand),
            speed=_speed(frame),
        )


def _fraction(value: float | None) -> float | None:
    """Between 0 and 1, whatever a worker process says: else its node's heartbeats were invalid."""
    return None if value is None else max(0.0, min(1.0, value))


def _speed(frame: StatsChanged) -> EngineSpeed | None:
    if frame.prefill_us_per_token is None and not frame.decode_times:
        return None
    try:
        return EngineSpeed(
            prefill_us_per_token=frame.prefill_us_per_token,
            decode=tuple(
                DecodeTime.model_validate({"batch": x.batch, "mean_us": x.mean_us})
                for x in frame.decode_times
            ),
        )
    except ValidationError as exc:
        raise FrameError(f"this is the speed of no engine: {exc.errors()[0]['msg']}") from exc
