"""Builds the main loop over a stage, from what the agent and the manifest say of it."""

import json
import logging
from typing import TYPE_CHECKING

import torch

from libs.common.modelconfig.config import ModelConfig
from libs.common.weights.manifest import Manifest
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.consolidation.kv_ports import KvSender
from services.worker.engine.engine import StageEngine
from services.worker.engine.execution.follower import Follower
from services.worker.engine.execution.ring import Loopback, Ring
from services.worker.engine.execution.warmup import warm_up
from services.worker.engine.model.config import parse_config
from services.worker.engine.model.place import Place
from services.worker.engine.model.weights import WeightSource
from services.worker.engine.options import EngineOptions
from services.worker.engine_port import NoEvents, StageEvents
from services.worker.errors import WorkerError
from services.worker.frames.frames import StartWorker
from services.worker.runtime.consolidation.port import Consolidations, Growths, NoConsolidations
from services.worker.runtime.follower_loop import FollowerLoop
from services.worker.runtime.main_loop import MainLoop
from services.worker.runtime.parameters import DTYPES, ParameterManager
from services.worker.runtime.placement import (
    DevicePlacement,
    HostPlacement,
    Placement,
    SlabPlacement,
    UnfilledPlacement,
)
from services.worker.runtime.prefill_steps import EntryEvents, FirstAnswer, FollowerEvents
from services.worker.runtime.serving_loop import ServingLoop
from services.worker.runtime.unit_mapper import UnitMapper
from services.worker.runtime.worker_parts import WorkerParts

if TYPE_CHECKING:  # a whole model does not load ZeroMQ, a CPU no driver
    from services.worker.runtime.cuda.kernels import Kernels
    from services.worker.runtime.cuda.loading import DeviceLoading
    from services.worker.runtime.dataplane.plane import DataPlane

logger = logging.getLogger(__name__)


def stage_loop(parts: WorkerParts) -> MainLoop:
    """Waits for the manifest, not for the weights nor the neighbours. Raises WorkerError."""
    start, mapper, plane = parts.start, parts.mapper, parts.plane
    manifest = mapper.manifest()
    config = parse_config(json.loads(manifest.config_json))
    place = _place(start, config)
    answer = FirstAnswer(parts.steps)
    options = _options(parts, manifest, config, _events(place, answer))
    placement = placement_on(options.device, mapper, parts.loading)
    if options.device.type == "cuda":
        _limit_memory(start, placement)
    ring = Loopback() if plane is None else _socket_ring(plane, config, options)
    engine = _built(parts, config, ParameterManager(mapper, placement), options, place, ring)
    if isinstance(placement, SlabPlacement):
        with parts.steps.step("warm_up"):
            unfilled = ParameterManager(mapper, UnfilledPlacement(placement))
            warm_up_if_possible(config, unfilled, options, place, engine.cache)
    if isinstance(engine, Follower):
        growths = _growths(engine, parts, config, options)
        return FollowerLoop(engine, parts.channel, parts.steps, parts.wait_linked, growths)
    return ServingLoop(
        engine,
        parts.channel,
        parts.steps,
        answer,
        parts.wait_linked,
        _consolidations(engine, parts, config, options),
    )


def _built(
    parts: WorkerParts,
    config: ModelConfig,
    source: WeightSource,
    options: EngineOptions,
    place: Place,
    ring: Ring,
) -> StageEngine | Follower:
    try:
        if place.is_entry:
            return StageEngine(config, source, options, place, ring)
        return Follower(config, source, options, place, ring, _kv_outlet(parts, place))
    except torch.AcceleratorError:  # a broken device, not a full one
        raise
    except RuntimeError as exc:  # torch has no narrower class for it on the CPU
        cause = str(exc).splitlines()[0]
        raise WorkerError(
            f"{options.kv_bytes} bytes of KV cache on {options.device}: {cause}"
        ) from exc


def _consolidations(
    engine: StageEngine, parts: WorkerParts, config: ModelConfig, options: EngineOptions
) -> Consolidations:
    if parts.plane is None:
        return NoConsolidations()
    from services.worker.runtime.consolidation.driver import ConsolidationDriver

    return ConsolidationDriver(engine, parts.start, parts.channel, config, options.dtype)


def _growths(
    follower: Follower, parts: WorkerParts, config: ModelConfig, options: EngineOptions
) -> Growths:
    # A whole model does not load it.
    from services.worker.runtime.consolidation.growth_driver import GrowthDriver, engine_of_whole

    return GrowthDriver(follower, parts.start, parts.channel, engine_of_whole(config, options))


def _kv_outlet(parts: WorkerParts, place: Place) -> KvSender:
    from services.worker.runtime.dataplane.kv_outlet import KvOutlet
    from services.worker.runtime.neighbours import kv_limit

    options = parts.start.data_plane
    return KvOutlet(options.security, stage=place.index, before_send=kv_limit(options.nic_ledger))


def _events(place: Place, answer: FirstAnswer) -> StageEvents:
    if place.num_stages == 1:
        return NoEvents()
    return EntryEvents(answer) if place.is_entry else FollowerEvents(answer.prefill)


def warm_up_if_possible(
    config: ModelConfig,
    unfilled: WeightSource,
    options: EngineOptions,
    place: Place,
    cache: KvCache,
) -> None:
    """Not worth a start: if the device is broken, the next step says so again."""
    try:
        warm_up(config, unfilled, options, place, cache)
    except RuntimeError as exc:
        logger.warning("no warm-up, the first tokens will take longer: %s", exc)


def placement_on(
    device: torch.device, mapper: UnitMapper, loading: "DeviceLoading | None"
) -> Placement:
    """Waits until it is known whether `loading` has a slab. Raises WeightsUnavailable."""
    if loading is not None and (slab := loading.slab()) is not None:
        return SlabPlacement(loading, slab)
    return HostPlacement(mapper) if device.type == "cpu" else DevicePlacement(mapper, device)


def _limit_memory(start: StartWorker, placement: Placement) -> None:
    """What was planned for others on this GPU stays theirs. Raises ReservationTooSmall."""
    from services.worker.runtime.cuda.memory import Reservation, torch_share

    slab_bytes = placement.size_bytes if isinstance(placement, SlabPlacement) else 0
    reservation = Reservation(start.device_bytes, slab_bytes, start.kv_bytes)
    total_bytes = torch.cuda.mem_get_info()[1]
    torch.cuda.set_per_process_memory_fraction(torch_share(reservation, total_bytes))


def _place(start: StartWorker, config: ModelConfig) -> Place:
    first, last, num_stages = start.first_layer, start.last_layer, start.num_stages
    asked = f"layers {first} to {last} as stage {start.stage_index} of {num_stages}"
    if not 0 <= first <= last <= config.num_layers or not 0 <= start.stage_index < num_stages:
        raise WorkerError(f"a model of {config.num_layers} layers has no {asked}")
    if num_stages == 1 and last - first != config.num_layers:
        raise WorkerError(f"{asked} leave out some of the model's {config.num_layers}")
    if num_stages > 1 and not start.kv_tokens:
        raise WorkerError("several stages need the number of cache slots that they share")
    return Place(start.stage_index, num_stages, range(first, last))


def _options(
    parts: WorkerParts, manifest: Manifest, config: ModelConfig, events: StageEvents
) -> EngineOptions:
    start = parts.start
    dtype, device = DTYPES[manifest.dtype], torch.device(start.device)
    kernels = _kernels(config, dtype, device)
    return EngineOptions(
        dtype=dtype,
        device=device,
        kv_bytes=start.kv_bytes,
        kv_tokens=start.kv_tokens or None,
        max_running=start.max_slots,
        max_context_tokens=min(start.max_context_tokens, manifest.max_context_tokens),
        eos_token_ids=frozenset(manifest.eos_token_ids),
        packed_bytes=start.device_bytes - start.kv_bytes if start.device == "cpu" else 0,
        packed_kernel=None if kernels is None else kernels.packed,
        graphs=None if kernels is None else kernels.graphs,
        unit_timeout_s=start.start_timeout_ms / 1000,
        layer_done=parts.channel.progress.note,
        events=events,
    )


def _kernels(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> "Kernels | None":
    """None on a CPU. Raises DeviceUnsuitable."""
    if device.type == "cpu":
        return None
    from services.worker.runtime.cuda.kernels import kernels_on

    return kernels_on(device, config.attention, dtype)


def _socket_ring(plane: "DataPlane", config: ModelConfig, options: EngineOptions) -> Ring:
    from services.worker.runtime.dataplane.ring import SocketRing

    return SocketRing(
        plane,
        config.hidden_size,
        options.dtype,
        options.device,
        link_timeout_s=options.unit_timeout_s,
    )
