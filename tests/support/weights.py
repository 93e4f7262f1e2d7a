"""A model's weights as the engine's WeightSource, packed into units like an import packs them."""

import mmap
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch

from libs.common.weights.manifest import UnitKind
from services.worker.engine.model.weights import UnitKey

_ORDER = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight")
_OF_UNIT = {
    UnitKind.EMBEDDING: "model.embed_tokens.",
    UnitKind.FINAL_NORM: "model.norm.",
    UnitKind.LM_HEAD: "lm_head.",
}


class PackedWeights:
    """Each unit is one read-only file mapping; a write to a weight would kill the process."""

    def __init__(self, state: Mapping[str, torch.Tensor], folder: Path) -> None:
        self._tensors: dict[UnitKey, dict[str, torch.Tensor]] = {}
        self.waited: list[UnitKey] = []  # in the order in which the engine asked
        layers = {int(name.split(".")[2]) for name in state if name.startswith("model.layers.")}
        units = [UnitKey(UnitKind.LAYER, index) for index in sorted(layers)]
        for unit in (*units, *(UnitKey(kind) for kind in _OF_UNIT)):
            prefix = _OF_UNIT.get(unit.kind, f"model.layers.{unit.layer_index}.")
            names = sorted((n for n in state if n.startswith(prefix)), key=_position)
            if names:
                path = folder / f"{unit.kind}-{unit.layer_index}"
                self._tensors[unit] = _map_packed({name: state[name] for name in names}, path)

    def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
        self.waited.append(unit)

    def tensor(self, unit: UnitKey, name: str) -> torch.Tensor:
        return self._tensors[unit][name]


def _position(name: str) -> tuple[int, str]:
    """Fused matrices first, next to each other and in order."""
    ranks = (rank for rank, suffix in enumerate(_ORDER) if name.endswith(suffix))
    return next(ranks, len(_ORDER)), name


def _map_packed(tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    with path.open("wb") as file:
        for tensor in tensors.values():
            file.write(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    dtype = next(iter(tensors.values())).dtype
    with warnings.catch_warnings():
        # Read-only on purpose; torch has no notion of such a tensor and says so.
        warnings.filterwarnings("ignore", message="The given buffer is not writable")
        flat = torch.frombuffer(memoryview(mapping), dtype=dtype)
    views, start = {}, 0
    for name, tensor in tensors.items():
        views[name] = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    return views
