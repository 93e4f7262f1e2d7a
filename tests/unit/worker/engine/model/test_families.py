"""Every family against transformers in float32, over units that the importer planned and packed."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import pytest
import torch

from libs.common.modelconfig.config import Activation, ModelConfig, RopeConfig
from libs.common.sampling import SamplingParameters
from services.worker.engine.attention.spans import Span
from services.worker.engine.model.stage import Stage
from services.worker.engine_port import Request
from tests.support.equality import TokenEquality, is_greedy_near_tie
from tests.unit.worker.engine.families import CASES, FAMILIES, Family
from tests.unit.worker.engine.imported import Imported
from tests.unit.worker.engine.pipelines import layers_of, make_pipeline
from tests.unit.worker.engine.tiny import Subject, generate

LENGTH = 70  # beyond every window and the original context of the llama3 scaling
CHUNKINGS = {
    "prefill": (LENGTH,),
    "prefill, then decode": (LENGTH - 5, 1, 1, 1, 1, 1),
    "chunked prefill": (1, 16, 7, 32, LENGTH - 56),
    "decode from the first token": (1,) * LENGTH,
}
MAX_DIFFERENCE = 1e-4  # of the largest logit

Make = Callable[[Family, str], Imported]
Change = Callable[[ModelConfig], ModelConfig]
with_every_shape = pytest.mark.parametrize(
    ("family", "shape"), CASES, ids=[f"{family.name} {shape}" for family, shape in CASES]
)


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    @cache
    def build(family: Family, shape: str) -> Imported:
        return Imported(family.build(shape), tmp_path_factory.mktemp(family.name))

    return build


def difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest one, relative to the largest logit."""
    return ((actual - expected).abs().max() / expected.abs().max()).item()


@torch.inference_mode()
def forward(
    model: Subject, stages: Sequence[Stage], token_ids: tuple[int, ...], chunks: Sequence[int]
) -> torch.Tensor:
    """`[tokens, vocabulary]`: embed and head on the first stage, layers on all of them."""
    caches = [model.cache(len(stage.layers)) for stage in stages]
    rows, start = [], 0
    for length in chunks:
        context = model.context((Span(0, length, kv_start=3, kv_length=start + length),))
        inputs = torch.tensor(token_ids[start : start + length])
        hidden = stages[0].embed(inputs, torch.arange(start, start + length))
        for stage, kv_cache in zip(stages, caches, strict=True):
            hidden = stage.run_layers(hidden, context, kv_cache)
        rows.append(stages[0].logits(hidden))
        start += length
    return torch.cat(rows)


@with_every_shape
def test_logits_agree_however_the_prompt_is_cut(make: Make, family: Family, shape: str) -> None:
    model = make(family, shape)
    token_ids = model.prompt(LENGTH)
    expected = model.reference_logits(token_ids)
    whole = model.stage(range(model.config.num_layers), is_entry=True)

    for name, chunks in CHUNKINGS.items():
        actual = forward(model, [whole], token_ids, chunks)

        assert difference(actual, expected) <= MAX_DIFFERENCE, name


@with_every_shape
def test_a_split_at_any_layer_boundary_changes_nothing(
    make: Make, family: Family, shape: str
) -> None:
    model = make(family, shape)
    token_ids, num_layers = model.prompt(LENGTH), model.config.num_layers
    chunks = CHUNKINGS["chunked prefill"]
    whole = forward(model, [model.stage(range(num_layers), is_entry=True)], token_ids, chunks)

    for boundary in range(num_layers + 1):
        stages = [
            model.stage(range(boundary), is_entry=True),
            model.stage(range(boundary, num_layers), is_entry=False),
        ]
        assert torch.equal(forward(model, stages, token_ids, chunks), whole)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("num_stages", [1, 3])
def test_requests_in_a_pipeline_get_the_tokens_of_transformers(
    make: Make, family: Family, num_stages: int, equality: TokenEquality
) -> None:
    """Chunked, together, over an engine and its followers."""
    model = make(family, next(iter(family.shapes)))
    cuts = tuple(range(1, num_stages))
    pipeline = make_pipeline(
        model, layers_of(cuts, model.config.num_layers), random.Random(3), max_step_tokens=24
    )
    sampling = SamplingParameters(12, seed=0, temperature=0, ignore_eos=True)
    requests = [Request(f"{n}", 1, model.prompt(n), sampling) for n in (1, 19, 60)]

    results = generate(pipeline.engine, *requests)

    for request in requests:
        expected = model.reference_tokens(request.prompt_ids, 12)

        def is_near_tie(index: int, prompt: tuple[int, ...] = request.prompt_ids) -> bool:
            tokens = prompt + tuple(expected[:index])  # noqa: B023  # asked within this turn
            return is_greedy_near_tie(model.reference_logits(tokens)[-1])

        tokens = results[request.request_id].token_ids
        equality.compare(request.request_id, tokens, expected, is_near_tie)
    equality.check()


MISTAKES: tuple[tuple[str, str, Change, str], ...] = (
    ("mistral", "short window", lambda c: with_windows(c, +1), "one token too many"),
    ("mistral", "long window", lambda c: with_windows(c, -1), "one token too few"),
    ("qwen2", "upper layers slide", lambda c: with_windows(c, +1), "one token too many"),
    ("gemma2", "alternating windows", lambda c: with_windows(c, +1), "one token too many"),
    ("gemma2", "alternating windows", lambda c: replace(c, embedding_scale=1.0), "no scale"),
    ("gemma2", "alternating windows", lambda c: in_attention(c, score_scale=0.25), "own scale"),
    ("gemma2", "tight caps", lambda c: in_attention(c, score_cap=None), "no cap of scores"),
    ("gemma2", "tight caps", lambda c: replace(c, logit_cap=None), "no cap of logits"),
    ("gemma2", "no caps", lambda c: in_mlp(c, Activation.GELU), "the exact GELU"),
    ("falcon", "7b", lambda c: in_mlp(c, Activation.GELU_TANH), "the other GELU"),
    ("llama", "llama 3.1", lambda c: in_attention(c, rope=RopeConfig(1e4)), "no stretch"),
    ("llama", "llama 2", lambda c: replace(c, norm=replace(c.norm, eps=1e-5)), "another epsilon"),
    ("opt", "125m", lambda c: replace(c, norm=replace(c.norm, eps=1e-6)), "another epsilon"),
    ("qwen3", "grouped", lambda c: in_attention(c, has_head_norms=False), "no head norms"),
    ("qwen2", "grouped", lambda c: in_attention(c, has_qkv_bias=False), "no biases"),
)


def with_windows(config: ModelConfig, extra: int) -> ModelConfig:
    windows = tuple(window and window + extra for window in config.attention.windows)
    return in_attention(config, windows=windows)


def in_attention(config: ModelConfig, **changes: object) -> ModelConfig:
    attention = replace(config.attention, **changes)  # type: ignore[arg-type]  # a test's own
    return replace(config, attention=attention)


def in_mlp(config: ModelConfig, activation: Activation) -> ModelConfig:
    return replace(config, mlp=replace(config.mlp, activation=activation))


@pytest.mark.parametrize(
    ("family", "shape", "mistake"),
    [(family, shape, mistake) for family, shape, mistake, _ in MISTAKES],
    ids=[f"{family} {shape}: {what}" for family, shape, _, what in MISTAKES],
)
def test_agreement_is_no_accident(make: Make, family: str, shape: str, mistake: Change) -> None:
    """The smallest misreading of a configuration is further off than what counts as equal."""
    model = make(next(f for f in FAMILIES if f.name == family), shape)
    wrong = Subject(model.reference, mistake(model.config), model.weights)
    token_ids = model.prompt(LENGTH)
    stage = wrong.stage(range(wrong.config.num_layers), is_entry=True)

    actual = forward(wrong, [stage], token_ids, (LENGTH,))

    assert difference(actual, model.reference_logits(token_ids)) > MAX_DIFFERENCE
