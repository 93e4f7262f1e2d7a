"""The registered models of the benchmark, made of numbers: rows of Postgres and hollow nodes derive
the same digests from a model's number, so that neither needs a list of the other's.

Every model has 18 units (an embedding, 16 layers, a final norm) of 2.6 GB together, and a manifest
of its own. The last ones are large: an endpoint of one takes every device of its stages whole.
"""

import random
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from libs.common.bus.messages import ModelSummary, UnitSummary

NUM_LAYERS = 16
UNITS_PER_MODEL = NUM_LAYERS + 2
EMBEDDING_BYTES = 200_000_000
LAYER_BYTES = 150_000_000
NORM_BYTES = 8_192
KV_BYTES_PER_TOKEN = 65_536
CONTEXT_TOKENS = 8_192
KV_CACHE_BYTES = 2**30
LARGE_KV_CACHE_BYTES = 240 * 2**30  # more than half of four devices of 80 GiB
VOCABULARY = 49_152  # of the tokenizer that all share
MAX_STAGES = 4
MAX_SLOTS = 8
DTYPE = "bfloat16"


@dataclass(frozen=True)
class Catalogue:
    num_models: int
    num_large: int = 0  # the last ones
    num_tenants: int = 50

    def model_id(self, number: int) -> str:
        return f"model-{number:07d}"

    def name(self, number: int) -> str:
        return f"m-{number:07d}"

    def tenant(self, number: int) -> str:
        """Models are dealt out to tenants in turn."""
        return f"tenant-{number % self.num_tenants}"

    def is_large(self, number: int) -> bool:
        return number >= self.num_models - self.num_large

    def number_of(self, manifest_digest: str) -> int | None:
        """None for a manifest that is none of the catalogue's."""
        return self._numbers.get(bytes.fromhex(manifest_digest))

    def cached_models(self, node_id: str, num_units: int) -> frozenset[int]:
        """Models whose units a node's host cache holds at the start, whole, and up to that many
        units; chosen by the node's id alone."""
        count = min(self.num_models, num_units // UNITS_PER_MODEL)
        return frozenset(random.Random(node_id).sample(range(self.num_models), count))

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        return {bytes.fromhex(manifest_digest(i)): i for i in range(self.num_models)}


def manifest_digest(number: int) -> str:
    return _digest(f"manifest/{number}")


def unit_digests(number: int) -> tuple[str, ...]:
    """In the order of a manifest: embedding, layers, final norm."""
    return tuple(_digest(f"unit/{number}/{index}") for index in range(UNITS_PER_MODEL))


def unit_sizes_bytes() -> tuple[int, ...]:
    """Of any model, in the same order."""
    return (EMBEDDING_BYTES, *[LAYER_BYTES] * NUM_LAYERS, NORM_BYTES)


def summary(number: int, tokenizer_files: dict[str, tuple[str, int]]) -> ModelSummary:
    """What an import of the model would have told."""
    kinds = (("embedding", None), *(("layer", i) for i in range(NUM_LAYERS)), ("final_norm", None))
    units = zip(kinds, unit_digests(number), unit_sizes_bytes(), strict=True)
    return ModelSummary(
        architecture="LlamaForCausalLM",
        dtype=DTYPE,
        num_layers=NUM_LAYERS,
        vocab_size=VOCABULARY,
        max_context_tokens=CONTEXT_TOKENS,
        kv_bytes_per_token=KV_BYTES_PER_TOKEN,
        weight_bytes=sum(unit_sizes_bytes()),
        eos_token_ids=(2,),
        units=tuple(
            UnitSummary.model_validate(
                {"kind": kind, "layer": layer, "digest": digest, "size_bytes": size}
            )
            for (kind, layer), digest, size in units
        ),
        tokenizer_files=tokenizer_files,
    )


def _digest(text: str) -> str:
    """As Postgres computes it: `encode(sha256(convert_to(text, 'UTF8')), 'hex')`."""
    return sha256(text.encode()).hexdigest()
