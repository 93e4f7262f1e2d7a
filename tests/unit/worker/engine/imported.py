"""A model of transformers as the engine gets it: saved, planned, packed into units, mapped."""

import json
import mmap
import warnings
from pathlib import Path

import torch
from transformers import PreTrainedModel

from libs.common.weights.manifest import UnitEntry
from services.fetcher.imports.architectures import plan_model
from services.fetcher.imports.checkpoint import read_checkpoint
from services.fetcher.imports.repack import pack_unit
from services.fetcher.imports.source import opened_folder
from services.worker.engine.model.config import parse_config
from services.worker.engine.model.weights import UnitKey
from tests.unit.worker.engine.tiny import Subject

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16}


class ImportedWeights:
    """Each unit is one read-only mapping; a write to a weight would kill the process."""

    def __init__(self) -> None:
        self._units: dict[UnitKey, dict[str, torch.Tensor]] = {}

    def add(self, entry: UnitEntry, descriptor: int) -> None:
        mapping = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        with warnings.catch_warnings():
            # Read-only on purpose; torch has no notion of such a tensor and says so.
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            data = torch.frombuffer(memoryview(mapping), dtype=torch.uint8)
        self._units[UnitKey(entry.kind, entry.layer_index)] = {
            tensor.name: data[tensor.offset : tensor.end]
            .view(_DTYPES[tensor.dtype])
            .view(tensor.shape)
            for tensor in entry.tensors
        }

    @property
    def names(self) -> dict[UnitKey, set[str]]:
        return {unit: set(tensors) for unit, tensors in self._units.items()}

    def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
        assert unit in self._units

    def tensor(self, unit: UnitKey, name: str) -> torch.Tensor:
        return self._units[unit][name]


class Imported(Subject):
    """The fetcher's own reading, planning and packing lie between the two sides."""

    weights: ImportedWeights

    def __init__(self, reference: PreTrainedModel, folder: Path) -> None:
        reference.save_pretrained(folder)
        weights = ImportedWeights()
        with opened_folder(folder, [folder.parent]) as source:
            checkpoint = read_checkpoint(source)
            self.plan = plan_model(checkpoint.config, checkpoint.dtype)
            checkpoint.check_against(self.plan)
            for planned in self.plan.units:
                packed = pack_unit(planned, checkpoint, folder, owner=None)
                with packed.file:
                    weights.add(packed.entry, packed.file.fileno())
        document = json.loads((folder / "config.json").read_text())
        super().__init__(reference, parse_config(document), weights)
