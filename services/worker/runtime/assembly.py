"""Chooses the engine that the start frame asks for, and builds the main loop over it."""

from libs.common.states import EngineKind
from services.worker.errors import WorkerError
from services.worker.runtime.main_loop import MainLoop
from services.worker.runtime.stage_assembly import stage_loop
from services.worker.runtime.worker_parts import WorkerParts


def build_loop(parts: WorkerParts) -> MainLoop:
    """Waits for the manifest, not for the weights nor the neighbours. Raises WorkerError."""
    match parts.start.engine:
        case EngineKind.STAGE:
            return stage_loop(parts)
        case EngineKind.VLLM:
            raise WorkerError("this build has no vLLM engine")
