"""Tiny random Llama models of transformers, and the engine's parts over their weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from libs.common.modelconfig.config import ModelConfig
from services.worker.engine.attention.context import StepContext, StepContexts
from services.worker.engine.attention.kv_cache import KvCache
from services.worker.engine.attention.spans import Span
from services.worker.engine.engine import StageEngine
from services.worker.engine.model.config import parse_config
from services.worker.engine.model.stage import Stage
from services.worker.engine.model.weights import WeightSource
from services.worker.engine.options import EngineOptions
from services.worker.engine_port import Output, Request
from tests.support.weights import PackedWeights

CPU = torch.device("cpu")
MAX_CONTEXT = 256

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LINEAR_ROPE = {"rope_type": "linear", "rope_theta": 5_000.0, "factor": 2.0}


@dataclass(frozen=True)
class Shape:
    name: str
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 16
    hidden_size: int = 64
    intermediate_size: int = 96
    num_layers: int = 3
    vocab_size: int = 211
    is_tied: bool = False
    has_bias: bool = False
    rope: dict[str, object] | None = None


SHAPES = (
    Shape("grouped"),
    Shape("multi_head", num_kv_heads=4),
    Shape("one_kv_head", num_kv_heads=1),
    Shape("tied", is_tied=True),
    Shape("odd_heads", num_heads=9, num_kv_heads=3, head_dim=8, hidden_size=72),
    Shape("odd_sizes", num_heads=3, num_kv_heads=1, head_dim=10, hidden_size=30, vocab_size=101),
    Shape("head_dim_apart", head_dim=32, hidden_size=48, intermediate_size=33),
    Shape("llama3_rope", rope=LLAMA3_ROPE),
    Shape("linear_rope", rope=LINEAR_ROPE),
    Shape("biases", has_bias=True),
    Shape("one_layer", num_layers=1, is_tied=True, rope=LLAMA3_ROPE),
)


def build_reference(shape: Shape, *, spread: float = 0.2) -> LlamaForCausalLM:
    """Float32, random; weights spread wide, so that near ties are rare."""
    torch.manual_seed(7)
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=MAX_CONTEXT,
        tie_word_embeddings=shape.is_tied,
        attention_bias=shape.has_bias,
        mlp_bias=shape.has_bias,
        rope_parameters=shape.rope or {"rope_type": "default", "rope_theta": 10_000.0},
        initializer_range=spread,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        architectures=["LlamaForCausalLM"],
    )
    model = LlamaForCausalLM(config)
    roughen(model)
    return model


def roughen(model: PreTrainedModel) -> None:
    """Ready to infer, and no bias or norm is what it would be without a use: all zeros or ones."""
    model.train(False)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)


def step_context(config: ModelConfig, spans: tuple[Span, ...], dtype: torch.dtype) -> StepContext:
    """As the executor makes it, for the tokens at the end of each span."""
    contexts = StepContexts(config.attention, range(config.num_layers), MAX_CONTEXT, dtype, CPU)
    slots = [span.kv_start + p for span in spans for p in positions_of(span)]
    return contexts.make(spans, [p for span in spans for p in positions_of(span)], slots)


def positions_of(span: Span) -> range:
    return range(span.kv_length - span.num_rows, span.kv_length)


class Subject:
    """A reference model and everything of ours that runs its weights."""

    def __init__(
        self,
        reference: PreTrainedModel,
        config: ModelConfig,
        weights: WeightSource,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.reference, self.config, self.weights, self.dtype = reference, config, weights, dtype

    def prompt(self, length: int, seed: int = 0) -> tuple[int, ...]:
        generator = torch.Generator().manual_seed(1000 * length + seed)
        ids = torch.randint(2, self.config.vocab_size, (length,), generator=generator)
        return tuple(ids.tolist())

    def reference_logits(self, token_ids: tuple[int, ...]) -> torch.Tensor:
        """`[tokens, vocabulary]`."""
        with torch.inference_mode():
            logits: torch.Tensor = self.reference(torch.tensor([token_ids])).logits[0]
        return logits

    def reference_tokens(self, prompt: tuple[int, ...], num_tokens: int) -> list[int]:
        """Greedy, with the end token ignored."""
        ids = list(prompt)
        generated = self.reference.generate(  # type: ignore[operator]  # a mixin of the concrete classes
            torch.tensor([ids]), max_new_tokens=num_tokens, do_sample=False, eos_token_id=None
        )
        tokens: list[int] = generated[0, len(ids) :].tolist()
        return tokens

    def stage(self, layers: range, *, is_entry: bool) -> Stage:
        return Stage(
            self.config,
            layers,
            self.weights,
            is_entry=is_entry,
            dtype=self.dtype,
            unit_timeout_s=1.0,
        )

    def cache(self, num_layers: int, num_slots: int = 512) -> KvCache:
        return KvCache.allocate(
            self.config, num_layers=num_layers, num_slots=num_slots, dtype=self.dtype, device=CPU
        )

    def context(self, spans: tuple[Span, ...]) -> StepContext:
        return step_context(self.config, spans, self.dtype)

    def engine_options(self, **changes: object) -> EngineOptions:
        options: dict[str, object] = {
            "dtype": self.dtype,
            "device": CPU,
            "kv_bytes": 4 * 2**20,
            "max_running": 8,
            "max_context_tokens": MAX_CONTEXT,
            "eos_token_ids": frozenset({1}),
        }
        return EngineOptions(**(options | changes))  # type: ignore[arg-type]  # a test's own keywords

    def engine(self, **changes: object) -> StageEngine:
        return StageEngine(self.config, self.weights, self.engine_options(**changes))


class Tiny(Subject):
    """A Llama of some shape."""

    weights: PackedWeights

    def __init__(self, shape: Shape, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        """The reference computes in float32 whatever `dtype` its weights are rounded to."""
        reference = build_reference(shape)
        state = {name: tensor.to(dtype) for name, tensor in reference.state_dict().items()}
        reference.load_state_dict(state)
        if shape.is_tied:
            del state["lm_head.weight"]
        config = parse_config(reference.config.to_diff_dict())
        super().__init__(reference, config, PackedWeights(state, folder), dtype)


@dataclass
class Generated:
    token_ids: list[int]
    last: Output


def generate(
    engine: StageEngine, *requests: Request, max_steps: int = 5_000
) -> dict[str, Generated]:
    """Run requests together until all ended; indices must follow each other."""
    for request in requests:
        engine.add_request(request)
    results: dict[str, Generated] = {}
    first = {request.request_id: len(request.generated_ids) for request in requests}
    for _ in range(max_steps):
        for output in engine.step():
            empty = Generated([], output)
            result = results.setdefault(output.request_id, empty)
            assert output.start_index == first[output.request_id] + len(result.token_ids)
            result.token_ids += output.token_ids
            result.last = output
        if sum(result.last.finish is not None for result in results.values()) == len(requests):
            return results
    raise AssertionError(f"requests did not end within {max_steps} steps")
