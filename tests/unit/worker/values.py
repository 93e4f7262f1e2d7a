"""Values that the tests of the worker service start from."""

from typing import Any

from libs.common.bus.messages import Generate, LayerRange, WorkerSpec
from libs.common.sampling import SamplingParameters
from libs.common.states import MemberRole


def worker_spec(worker_id: str = "worker-a", **changed: Any) -> WorkerSpec:
    base: dict[str, Any] = {
        "worker_id": worker_id,
        "endpoint_id": "endpoint-a",
        "endpoint_epoch": 1,
        "model_id": "model-a",
        "manifest_digest": "0" * 64,
        "generation": 1,
        "role": MemberRole.FOLLOWER if changed.get("stage_index") else MemberRole.ENTRY,
        "stage_index": 0,
        "num_stages": 1,
        "layers": LayerRange(first_layer=0, last_layer=2),
        "unit_digests": ("1" * 64,),
        "device_index": 0,
        "device_bytes": 2**20,
        "kv_bytes": 2**16,
        "max_slots": 2,
        "max_context_tokens": 64,
        "cores": 1,
        "start_timeout_ms": 30_000,
    }
    return WorkerSpec(**{**base, **changed})


def generate(request_id: str = "request-a", **changed: Any) -> Generate:
    base: dict[str, Any] = {
        "request_id": request_id,
        "attempt": 1,
        "endpoint_id": "endpoint-a",
        "epoch": 1,
        "prompt_ids": (1, 2, 3),
        "sampling": SamplingParameters(max_tokens=8, seed=7),
        "remaining_ms": 10_000,
    }
    return Generate(**{**base, **changed})
