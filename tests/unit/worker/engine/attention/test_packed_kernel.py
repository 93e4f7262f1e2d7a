"""When one kernel attends for all chunks, and what happens where it cannot."""

import logging
from dataclasses import replace

import pytest
import torch

from libs.common.modelconfig.config import AttentionConfig
from libs.common.sampling import SamplingParameters
from services.worker.engine.attention.attention import build_attention
from services.worker.engine.attention.by_span import SpanAttention
from services.worker.engine.attention.packed import PackedAttention
from services.worker.engine.attention.packed_kernel import (
    find_packed_kernel,
    known_operator,
    why_no_packed_kernel,
)
from services.worker.engine.attention.spans import Scores, Span
from services.worker.engine.gpu import Gpu
from services.worker.engine_port import Request
from tests.support.fakeflash import SCHEMA, TOO_OLD, FlashDouble, operators
from tests.unit.worker.engine.tiny import SHAPES, Tiny, generate

CPU = torch.device("cpu")
H100, A10 = Gpu("H100", (9, 0)), Gpu("A10", (8, 6))
T4, V100 = Gpu("Tesla T4", (7, 5)), Gpu("Tesla V100", (7, 0))
CONFIG = AttentionConfig(9, 3, 64, score_scale=0.125, windows=(None, None), rope=None)
WINDOWED = replace(CONFIG, windows=(None, 4))


@pytest.mark.parametrize(
    ("gpu", "config", "dtype", "why"),
    [
        pytest.param(H100, CONFIG, torch.bfloat16, None, id="Hopper"),
        pytest.param(A10, CONFIG, torch.float16, None, id="Ampere"),
        pytest.param(T4, CONFIG, torch.float16, "capability 7.5", id="Turing"),
        pytest.param(V100, CONFIG, torch.float16, "capability 7.0", id="Volta"),
        pytest.param(H100, CONFIG, torch.float32, "16-bit", id="float32"),
        pytest.param(
            H100, replace(CONFIG, score_cap=50.0), torch.float16, "caps", id="capped scores"
        ),
        pytest.param(H100, replace(CONFIG, head_dim=10), torch.float16, "10 values", id="heads"),
        pytest.param(H100, replace(CONFIG, head_dim=320), torch.float16, "320", id="large heads"),
    ],
)
def test_who_can_use_the_kernel(
    gpu: Gpu, config: AttentionConfig, dtype: torch.dtype, why: str | None
) -> None:
    reason = why_no_packed_kernel(gpu, config, dtype)
    assert reason is None if why is None else why in (reason or "")


def test_the_installed_torch_has_the_operator_as_it_is_called() -> None:
    assert known_operator(torch.ops.aten) is not None


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(SCHEMA.replace("Tensor? seqused_k=None, ", ""), id="lacks an argument"),
        pytest.param(SCHEMA.replace("cum_seq_k", "page_table"), id="means another one"),
        pytest.param(
            SCHEMA.replace("SymInt max_q, SymInt max_k", "SymInt max_k, SymInt max_q"),
            id="another order",
        ),
        pytest.param(SCHEMA.replace("alibi_slopes=None", "alibi_slopes"), id="wants one more"),
    ],
)
def test_an_operator_of_another_signature_is_not_called(schema: str) -> None:
    kernel = FlashDouble()
    assert known_operator(operators(kernel)) is not None
    assert known_operator(operators(kernel, schema)) is None
    assert find_packed_kernel(H100, CONFIG, torch.float16, CPU, operators(kernel, schema)) is None
    assert kernel.max_lengths == []


@pytest.mark.parametrize("config", [CONFIG, WINDOWED], ids=["full", "windowed"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_an_operator_that_computes_what_is_expected_is_used(
    config: AttentionConfig, dtype: torch.dtype
) -> None:
    kernel = FlashDouble()
    assert find_packed_kernel(H100, config, dtype, CPU, operators(kernel)) is not None
    assert kernel.max_lengths, "it was tried"


@pytest.mark.parametrize(
    ("kernel", "said"),
    [
        pytest.param(FlashDouble(failure=TOO_OLD), TOO_OLD, id="fails"),
        pytest.param(
            FlashDouble(ignores_lengths=True), "computes something else", id="means others"
        ),
        pytest.param(None, "no such operator", id="is not there"),
    ],
)
def test_one_that_does_not_is_named_and_chunks_are_attended_one_by_one(
    kernel: FlashDouble | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    namespace = object() if kernel is None else operators(kernel)
    with caplog.at_level(logging.WARNING):
        found = find_packed_kernel(H100, CONFIG, torch.float16, CPU, namespace)
    assert found is None
    assert "chunk by chunk" in caplog.text and said in caplog.text


def test_the_kernel_that_was_found_is_the_one_that_steps_call() -> None:
    spans, scores = (Span(0, 2, 0, 2),), Scores(0.25)
    with_it = build_attention(spans, scores, FlashDouble(), torch.float16, CPU)
    without = build_attention(spans, scores, None, torch.float16, CPU)
    assert isinstance(with_it, PackedAttention) and isinstance(without, SpanAttention)


def test_a_model_answers_the_same_with_the_kernel_and_without(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tiny = Tiny(SHAPES[0], tmp_path_factory.mktemp("tiny"))
    sampling = SamplingParameters(12, seed=0, temperature=0, ignore_eos=True)
    asked = [Request(f"{n}", 1, tiny.prompt(n), sampling) for n in (1, 9, 40)]
    kernel = FlashDouble()

    packed = generate(tiny.engine(packed_kernel=kernel), *asked)
    plain = generate(tiny.engine(), *asked)

    assert kernel.max_lengths
    assert {k: r.token_ids for k, r in packed.items()} == {k: r.token_ids for k, r in plain.items()}
