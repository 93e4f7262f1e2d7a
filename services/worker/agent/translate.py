"""Translates bus messages to frames and back."""

from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from libs.common.bus.messages import (
    Generate,
    Logprob,
    PauseObserved,
    Peer,
    Step,
    SwitchObserved,
    TokensGenerated,
    WorkerSpec,
)
from libs.common.states import FetchClass
from services.worker.agent.devices.device import Device
from services.worker.agent.requests.prompt_assembler import Prompt
from services.worker.errors import FrameError
from services.worker.frames.consolidation import SwitchMeasured
from services.worker.frames.dataplane import DataPlaneOptions, Neighbour
from services.worker.frames.frames import (
    ConnectPeers,
    GenerateTokens,
    StartWorker,
    StepTaken,
    TokensProduced,
)


def start_frame(
    spec: WorkerSpec,
    device: Device,
    fetcher_socket: Path,
    data_plane: DataPlaneOptions,
    fetch_class: FetchClass = FetchClass.INTERACTIVE,
    max_threads: int | None = None,
) -> StartWorker:
    return StartWorker(
        worker_id=spec.worker_id,
        manifest_digest=spec.manifest_digest,
        unit_digests=spec.unit_digests,
        stage_index=spec.stage_index,
        num_stages=spec.num_stages,
        first_layer=spec.layers.first_layer,
        last_layer=spec.layers.last_layer,
        device=device.torch_name,
        device_bytes=spec.device_bytes,
        kv_bytes=spec.kv_bytes,
        max_slots=spec.max_slots,
        max_context_tokens=spec.max_context_tokens,
        cores=spec.cores,
        start_timeout_ms=spec.start_timeout_ms,
        fetcher_socket=str(fetcher_socket),
        kv_tokens=spec.kv_tokens,
        data_plane=data_plane,
        engine=spec.engine,
        fetch_class=fetch_class,
        device_uuid=device.uuid,
        max_threads=max_threads,
    )


def connect_frame(spec: WorkerSpec) -> ConnectPeers | None:
    """None while a neighbour, or its key, is not known yet."""
    previous = _neighbour(spec.previous, (spec.stage_index - 1) % spec.num_stages)
    following = _neighbour(spec.next, (spec.stage_index + 1) % spec.num_stages)
    if previous is None or following is None:
        return None
    return ConnectPeers(previous, following)


def _neighbour(peer: Peer | None, stage_index: int) -> Neighbour | None:
    if peer is None or peer.public_key is None:
        return None
    return Neighbour(stage_index, peer.address, peer.public_key)


def generate_frame(message: Generate, prompt: Prompt) -> GenerateTokens:
    return GenerateTokens(
        request_id=message.request_id,
        attempt=message.attempt,
        prompt_ids=prompt.prompt_ids,
        generated_ids=prompt.generated_ids,
        sampling=message.sampling,
    )


def tokens_message(frame: TokensProduced) -> TokensGenerated:
    """Raises pydantic's ValidationError for ids or indices below 0."""
    logprobs = frame.logprobs
    return TokensGenerated(
        request_id=frame.request_id,
        attempt=frame.attempt,
        start_index=frame.start_index,
        ids=frame.ids,
        logprobs=None
        if logprobs is None
        else tuple(Logprob(logprob=entry.logprob, top=entry.top) for entry in logprobs),
        finish=frame.finish,
        error=frame.error,
    )


def step_message(frame: StepTaken) -> Step:
    """Raises FrameError for times that no calendar has."""
    return Step(
        name=frame.name[:64],
        started_at=_wall_time(frame.started_at_s),
        ended_at=None if frame.ended_at_s is None else _wall_time(frame.ended_at_s),
        detail=frame.detail[:200],
    )


def switch_message(frame: SwitchMeasured) -> SwitchObserved:
    """Raises FrameError for what no switch of ours can have been."""
    try:
        return SwitchObserved(
            generation=frame.generation,
            transfer="recompute" if frame.is_recomputed else "move",
            predicted_move_ms=_milliseconds(frame.predicted_move_s),
            predicted_recompute_ms=_milliseconds(frame.predicted_recompute_s),
            num_sequences=frame.num_sequences,
            precopied_bytes=frame.precopied_bytes,
            moved_bytes=frame.moved_bytes,
            drain_ms=1000 * frame.drain_s,
            move_ms=1000 * frame.move_s,
            pauses=tuple(
                PauseObserved(
                    request_id=pause.request_id,
                    pause_ms=1000 * pause.pause_s,
                    usual_gap_ms=_milliseconds(pause.usual_gap_s),
                )
                for pause in frame.pauses
            ),
        )
    except ValidationError as exc:
        raise FrameError(f"a switch that cannot have been: {exc.errors()[0]['msg']}") from exc


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _wall_time(seconds: float) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise FrameError(f"{seconds} is no wall time") from exc
