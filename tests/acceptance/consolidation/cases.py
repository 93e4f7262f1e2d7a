"""Random models, and random requests that run while their pipelines become one worker."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch

from services.worker.engine.model.config import parse_config
from tests.acceptance.client import Json
from tests.support.checkpoints import byte_tokenizer, save_tokenizer
from tests.unit.worker.engine.families import FAMILIES, Family
from tests.unit.worker.engine.tiny import roughen

MAX_CONTEXT = 2_048
NUM_LAYERS = 6
LATEST_S = 1.5  # after the first tokens, for others to come
CROWDED_TOKENS = 1_600  # room for the longest sequence, but for no other as long
FLOAT32_BYTES = 4
SLOTS_OF_ONE = 4  # an endpoint, where several are to be needed

SAMPLINGS: tuple[Json, ...] = (
    {"temperature": 0},
    {"temperature": 0.8, "top_p": 0.9},
    {"temperature": 0, "repetition_penalty": 1.2, "presence_penalty": 0.4},
    {"temperature": 0.7, "frequency_penalty": 0.3, "top_k": 40},
)


@dataclass(frozen=True)
class CaseRequest:
    prompt: str
    after_s: float  # the first tokens of the first one
    is_cancelled: bool
    parameters: Json


@dataclass(frozen=True)
class Case:
    """All of it follows from its number."""

    number: int
    family: Family
    num_stages: int
    is_scale_up: bool
    is_crowded: bool  # sequences have to give up their cache regions
    requests: tuple[CaseRequest, ...]

    def __str__(self) -> str:
        kind = "scale-up" if self.is_scale_up else "scale-down"
        return f"{self.number}: {self.family.name}, {self.num_stages} stages, {kind}"

    @property
    def settings(self) -> Json:
        """Of its model."""
        bounds: Json = {}
        if self.is_scale_up:
            bounds = {"max_endpoints": 2, "full_memory_workers": 2, "max_slots": SLOTS_OF_ONE}
        size = {"min_pipeline_size": self.num_stages, "max_pipeline_size": self.num_stages}
        return {"keep_alive_s": 60, **size, **bounds}


def random_case(number: int) -> Case:
    """Every second one has eight requests, of which one is cancelled."""
    chance = random.Random(number)
    is_scale_up = number % 4 == 3
    is_crowded = number % 4 == 1
    num_requests = 8 if is_scale_up or is_crowded else chance.randint(1, 3)
    latest_s = 0.0 if is_scale_up else LATEST_S  # all at once need several endpoints at once
    requests = [_request(chance, i, num_requests, latest_s) for i in range(num_requests)]
    family = FAMILIES[number % len(FAMILIES)]
    num_stages = 2 + chance.randrange(3)
    return Case(number, family, num_stages, is_scale_up, is_crowded, tuple(requests))


def _request(chance: random.Random, index: int, num_requests: int, latest_s: float) -> CaseRequest:
    sampling = chance.choice(SAMPLINGS)
    num_tokens = chance.randint(50, 600)
    return CaseRequest(
        prompt="".join(chance.choices("abcdefgh ", k=chance.randint(1, 300))),
        after_s=0.0 if index == 0 else chance.choice((0.0, chance.uniform(0, latest_s))),
        is_cancelled=num_requests == 8 and index == 5,
        parameters={
            **sampling,
            "max_tokens": num_tokens,
            "seed": chance.randrange(2**31),
            "ignore_eos": True,
            "logprobs": True,
        },
    )


def settings_of(case: Case, folder: Path) -> Json:
    """Of the case's model, whose checkpoint is in `folder`."""
    if not case.is_crowded:
        return case.settings
    config = parse_config(json.loads((folder / "config.json").read_text()))
    values_per_token = 2 * config.num_layers * config.num_kv_heads * config.head_dim
    return {**case.settings, "kv_cache_bytes": CROWDED_TOKENS * values_per_token * FLOAT32_BYTES}


def save_checkpoint(case: Case, folder: Path) -> Path:
    """A model of the case's family, in float32, whose weights no node has seen."""
    family, tokenizer = case.family, byte_tokenizer()
    shape = next(iter(family.shapes.values()))
    of_stack = {
        "vocab_size": tokenizer.get_vocab_size(),
        "num_hidden_layers": NUM_LAYERS,
        "max_position_embeddings": MAX_CONTEXT,
        "eos_token_id": tokenizer.token_to_id("<|end|>"),
        "pad_token_id": None,
        ("init_std" if family.name == "opt" else "initializer_range"): 0.2,
    }
    torch.manual_seed(case.number)
    model = family.model(family.config(**{**family.common, **shape, **of_stack}))
    roughen(model)
    model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return folder
