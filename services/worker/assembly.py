"""Builds the engine of a worker from what the agent said and what the manifest says."""

import json

import torch

from services.worker.engine.config import parse_config
from services.worker.engine.engine import Engine, EngineOptions
from services.worker.errors import WorkerError
from services.worker.frames import StartWorker
from services.worker.parameters import DTYPES, ParameterManager, placement_for
from services.worker.unitfeed import UnitFeed


def build_engine(start: StartWorker, feed: UnitFeed) -> Engine:
    """Waits for the manifest, not for the weights. Raises WorkerError."""
    manifest = feed.manifest()
    config = parse_config(json.loads(manifest.config_json))
    if start.num_stages != 1 or (start.first_layer, start.last_layer) != (0, config.num_layers):
        raise WorkerError(
            f"this runtime executes whole models of {config.num_layers} layers, not layers "
            f"{start.first_layer} to {start.last_layer} as one of {start.num_stages} stages"
        )
    device = torch.device(start.device)
    options = EngineOptions(
        dtype=DTYPES[manifest.dtype],
        device=device,
        kv_bytes=start.kv_bytes,
        max_running=start.max_slots,
        max_context_tokens=min(start.max_context_tokens, manifest.max_context_tokens),
        eos_token_ids=frozenset(manifest.eos_token_ids),
        unit_timeout_s=start.start_timeout_ms / 1000,
    )
    try:
        return Engine(config, ParameterManager(feed, placement_for(device)), options)
    except RuntimeError as exc:  # torch has no narrower class for it on the CPU
        cause = str(exc).splitlines()[0]
        raise WorkerError(f"{start.kv_bytes} bytes of KV cache on {device}: {cause}") from exc
