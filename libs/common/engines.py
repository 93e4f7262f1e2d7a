"""What each engine takes of a node: priors, used until the node's agent has measured its own.

Generous: what is planned too tightly ends an endpoint in mid-answer. Nobody has measured vLLM here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from libs.common.states import EngineKind

CONTEXT_BYTES: Final = 2**29  # of a GPU: the driver's context and loaded kernels
# Of a GPU: no process takes less, whatever was measured.
LEAST_WORKER_BYTES: Final = CONTEXT_BYTES + 64 * 2**20
WORKING_BYTES: Final = 2 * 2**30  # of a GPU: activations, workspaces and captured graphs

BFLOAT16: Final = "BF16"  # the type, as manifests name it
BFLOAT16_CAPABILITY: Final = (8, 0)  # of a GPU that computes it: Ampere; older ones do in part


@dataclass(frozen=True)
class EngineFigures:
    launch_s: float  # until a process has imported the engine, on a machine with a core for it
    worker_bytes: int  # of a GPU, beside weights and KV cache


PRIORS: Final[Mapping[EngineKind, EngineFigures]] = {
    EngineKind.STAGE: EngineFigures(1.25, CONTEXT_BYTES + WORKING_BYTES),
    EngineKind.VLLM: EngineFigures(15.0, CONTEXT_BYTES + 2 * WORKING_BYTES),
}
