"""How the engine computes on a GPU: decided once, before the engine is built."""

import logging
from dataclasses import dataclass

import torch

from libs.common.modelconfig.config import AttentionConfig
from services.worker.engine.attention.packed import PackedKernel
from services.worker.engine.attention.packed_kernel import find_packed_kernel
from services.worker.engine.execution.cuda_graph import CudaGraphs
from services.worker.engine.execution.graphs import GraphBackend
from services.worker.engine.gpu import Gpu, read_gpu, why_unsuitable
from services.worker.errors import DeviceUnsuitable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kernels:
    packed: PackedKernel | None = None
    graphs: GraphBackend | None = None


ANY_DEVICE = Kernels()  # what every device can


def kernels_on(
    device: torch.device, config: AttentionConfig, dtype: torch.dtype, gpu: Gpu | None = None
) -> Kernels:
    """`gpu` is read from the device where it is not given. Raises DeviceUnsuitable."""
    if gpu is None and torch.version.cuda is None:
        built = f"torch {torch.__version__} is built without CUDA"
        raise DeviceUnsuitable(f"{built}: install one that has it, or name no GPU in HYDRA_DEVICES")
    gpu = gpu or read_gpu(device)
    if (why := why_unsuitable(gpu, dtype)) is not None:
        raise DeviceUnsuitable(why)
    # cuDNN makes a plan for every new length, which takes longer than a step: 60 ms on an H100.
    torch.backends.cuda.enable_cudnn_sdp(False)
    packed = find_packed_kernel(gpu, config, dtype, device)
    if packed is None:
        logger.warning("decodes of this model run step by step: their kernels depend on lengths")
        return ANY_DEVICE
    return Kernels(packed, CudaGraphs(packed))
