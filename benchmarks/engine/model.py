"""The demo's model, in bfloat16, for the engine and for transformers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.engine.engines import DTYPE, options, warmed
from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.engine import StageEngine
from services.worker.engine.model.config import parse_config
from tests.support.smollm2 import converted
from tests.support.weights import PackedWeights


@dataclass(frozen=True)
class DemoModel:
    config: ModelConfig
    state: dict[str, torch.Tensor]
    weights: PackedWeights  # zero-copy, as an import lays them out
    checkpoint: Path  # the same weights in float32, as transformers saves them
    reference: Any  # transformers' model

    @classmethod
    def load(cls, gguf: Path, cache: Path, folder: Path) -> "DemoModel":
        """`cache` keeps the converted checkpoint, `folder` must live as long as the model."""
        checkpoint = converted(gguf, cache)
        reference = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=DTYPE)
        config = parse_config(reference.config.to_diff_dict())
        state = {k: v for k, v in reference.state_dict().items() if k != "lm_head.weight"}
        return cls(config, state, PackedWeights(state, folder), checkpoint, reference)

    def engine(self, *, is_packed: bool) -> StageEngine:
        engine = StageEngine(self.config, self.weights, options())
        return warmed(engine, is_packed=is_packed)
