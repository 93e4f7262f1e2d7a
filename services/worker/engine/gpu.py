"""What a GPU can compute with the torch that is installed. Pure but for `read_gpu`."""

import re
from dataclasses import dataclass

import torch

from libs.common.engines import BFLOAT16_CAPABILITY

_ARCHITECTURE = re.compile(r"(?P<kind>sm|compute)_(?P<major>\d+)(?P<minor>\d)")


@dataclass(frozen=True)
class Gpu:
    name: str
    capability: tuple[int, int]  # compute capability, major and minor
    architectures: tuple[str, ...] = ()  # that torch has kernels for, such as sm_90; (): not known

    @property
    def capability_text(self) -> str:
        return "{}.{}".format(*self.capability)


def read_gpu(device: torch.device) -> Gpu:
    """Makes torch open the device's context. Raises RuntimeError where it cannot."""
    properties = torch.cuda.get_device_properties(device)
    capability = (properties.major, properties.minor)
    return Gpu(properties.name, capability, tuple(torch.cuda.get_arch_list()))


def why_unsuitable(gpu: Gpu, dtype: torch.dtype) -> str | None:
    """Why no model of that type may be computed on it, and what to do; None if it may.

    bfloat16 is not converted: float16 ends at 65,504, and what is larger would become infinite in
    some models' activations, which nobody would notice but by their answers.
    """
    what = f"GPU {gpu.name} has compute capability {gpu.capability_text}"
    if not _has_kernels(gpu):
        built_for = ", ".join(gpu.architectures)
        return (
            f"{what}, for which torch {torch.__version__} has no kernels (it has {built_for}): "
            "install a build of torch for it, or take it out of HYDRA_DEVICES"
        )
    if dtype is torch.bfloat16 and gpu.capability < BFLOAT16_CAPABILITY:
        return (
            f"{what} and cannot compute the model's bfloat16, which needs 8.0: register a float16 "
            "checkpoint of the model, or use nodes whose GPUs have at least 8.0"
        )
    return None


def _has_kernels(gpu: Gpu) -> bool:
    """Binaries run on their major version from their minor one on, PTX on anything newer."""
    known = [found for name in gpu.architectures if (found := _ARCHITECTURE.fullmatch(name))]
    return not known or any(_runs_on(found, gpu.capability) for found in known)


def _runs_on(architecture: re.Match[str], capability: tuple[int, int]) -> bool:
    built_for = int(architecture["major"]), int(architecture["minor"])
    if architecture["kind"] == "compute":
        return built_for <= capability
    return built_for[0] == capability[0] and built_for[1] <= capability[1]
