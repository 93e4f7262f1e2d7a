"""What is measured, of whom, in which unit, and what each is taken for until it was measured. Pure.

How long a process takes to import its engine is measured too, by each agent, which tells a mean:
rows of `node_engines` have it, and plans find it as `Device.launch_s`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Final

from libs.common.decode_batches import DECODE_BATCHES


class Scope(Enum):
    NODE = "node"
    MODEL = "model"
    CLUSTER = "cluster"


class Quantity(StrEnum):
    """The unit is the end of each name; values are those of the rows."""

    # Of a node. Seconds from the launch command until a worker made of a standby could compute.
    STANDBY_LAUNCH_S = "standby_launch_s"
    # Seconds from the end of a launched process's import until it could compute: engine, KV cache.
    BUILD_S = "build_s"
    # Seconds from the last byte in the host cache until the stage could compute with it, where the
    # process had waited for that byte.
    TAIL_S = "tail_s"
    # Bytes per second of a fetch that had the node's network card to itself.
    NIC_BYTES_PER_S = "nic_bytes_per_s"
    # Bytes per second from the host cache to a GPU, where all of them were there at the beginning.
    HOST_TO_DEVICE_BYTES_PER_S = "host_to_device_bytes_per_s"

    # Of a model, as one worker that has its device to itself would take. Seconds for each token of
    # a prompt.
    PREFILL_S_PER_TOKEN = "prefill_s_per_token"
    # Seconds of a decode step of so many sequences (DECODE_BATCHES).
    STEP_1_S = "step_1_s"
    STEP_2_S = "step_2_s"
    STEP_4_S = "step_4_s"
    STEP_8_S = "step_8_s"
    STEP_16_S = "step_16_s"
    # Measured by predicted TTFT of a cold start, as they were told to those who wait; no unit. Of
    # the cluster, too.
    TTFT_RATIO = "ttft_ratio"

    # Of the cluster. Seconds for the hidden states of one token from a stage to the next. Nothing
    # measures it yet: stages behind the entry do not tell how long they compute.
    HOP_S = "hop_s"
    # Seconds for those of a whole prompt, the first one of a start.
    PROMPT_HOP_S = "prompt_hop_s"
    # The two of a model, by the size of its weights: what a model that never ran is taken for.
    PREFILL_S_PER_TOKEN_GB = "prefill_s_per_token_gb"
    STEP_S_PER_GB = "step_s_per_gb"


STEPS: Final[Mapping[int, Quantity]] = MappingProxyType(
    {batch: Quantity(f"step_{batch}_s") for batch in DECODE_BATCHES}
)
_NODE, _MODEL, _CLUSTER = (frozenset({scope}) for scope in Scope)
SCOPES: Final[Mapping[Quantity, frozenset[Scope]]] = MappingProxyType(
    {
        Quantity.STANDBY_LAUNCH_S: _NODE,
        Quantity.BUILD_S: _NODE,
        Quantity.TAIL_S: _NODE,
        Quantity.NIC_BYTES_PER_S: _NODE,
        Quantity.HOST_TO_DEVICE_BYTES_PER_S: _NODE,
        Quantity.PREFILL_S_PER_TOKEN: _MODEL,
        **dict.fromkeys(STEPS.values(), _MODEL),
        Quantity.TTFT_RATIO: _MODEL | _CLUSTER,
        Quantity.HOP_S: _CLUSTER,
        Quantity.PROMPT_HOP_S: _CLUSTER,
        Quantity.PREFILL_S_PER_TOKEN_GB: _CLUSTER,
        Quantity.STEP_S_PER_GB: _CLUSTER,
    }
)

# Of a network card the prior is its configured cap, of a model's speeds what the cluster's figures
# say for its size. The cluster's own are those of GPUs on purpose: the first start of a model must
# not be planned for a TPOT that nobody has measured, and the second one knows better.
PRIORS: Final[Mapping[Quantity, float]] = MappingProxyType(
    {
        # On a CPU a tenth of it (docs/standby-runtimes.md); on an H100 a context and a warm-up
        # together take 0.7 to 1.3.
        Quantity.STANDBY_LAUNCH_S: 0.5,
        Quantity.BUILD_S: 0.25,  # 0.1 on a CPU, 0.35 to 0.45 with a GPU's warm-up
        Quantity.TAIL_S: 0.1,  # 0.02 on a GPU; the last layers of a prefill, on a CPU
        Quantity.HOST_TO_DEVICE_BYTES_PER_S: 8e9,  # of one thread from pageable memory
        Quantity.TTFT_RATIO: 1.0,
        Quantity.HOP_S: 0.001,  # the published constant; 0.00013 within a machine
        Quantity.PROMPT_HOP_S: 0.005,  # 512 tokens of 8 KiB over 10 Gbit/s, and as much again
        # Two operations for each parameter at 70 * 10**12 a second (A10), 2 bytes per parameter.
        Quantity.PREFILL_S_PER_TOKEN_GB: 1.5e-5,
        Quantity.STEP_S_PER_GB: 0.003,  # 42 ms for Llama-2-7B on an A10, as published
    }
)


@dataclass(frozen=True)
class MeasurementKey:
    """What was measured, and of whom; both ids empty: of the cluster."""

    quantity: Quantity
    node_id: str = ""
    model_id: str = ""

    def __post_init__(self) -> None:
        assert self.scope in SCOPES[self.quantity], f"{self.quantity} is not of a {self.scope}"

    @property
    def scope(self) -> Scope:
        assert not (self.node_id and self.model_id), "nothing is of a node and a model so far"
        if self.node_id:
            return Scope.NODE
        return Scope.MODEL if self.model_id else Scope.CLUSTER
