"""The same answers on a GPU. Skipped where there is none."""

from collections.abc import Callable

import pytest
import torch

from libs.common.sampling import SamplingParameters
from services.worker.engine.attention.by_span import SpanAttention
from services.worker.engine.attention.packed import PackedAttention, PackedKernel, PackedRanges
from services.worker.engine.attention.packed_kernel import (
    CAPABILITY,
    find_packed_kernel,
    known_operator,
)
from services.worker.engine.attention.spans import Scores, Span
from services.worker.engine.engine import StageEngine
from services.worker.engine.execution.cuda_graph import CudaGraphs
from services.worker.engine.execution.executor import Executor
from services.worker.engine.execution.microbatch import MicroBatch, Piece
from services.worker.engine.gpu import read_gpu
from services.worker.engine.model.place import Place
from services.worker.engine.model.weights import UnitKey
from services.worker.engine_port import Request
from tests.support.equality import TokenEquality, is_greedy_near_tie
from tests.unit.worker.engine.tiny import SHAPES, Shape, Tiny, generate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
needs_packed_kernel = pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < CAPABILITY,
    reason="FlashAttention needs compute capability 8.0",
)

MakeTiny = Callable[[Shape], Tiny]
CUDA = torch.device("cuda")


class OnDevice:
    """A model's weights copied to the GPU, as a parameter manager does."""

    def __init__(self, tiny: Tiny, dtype: torch.dtype) -> None:
        self._weights, self._dtype = tiny.weights, dtype

    def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
        return

    def tensor(self, unit: UnitKey, name: str) -> torch.Tensor:
        return self._weights.tensor(unit, name).to(CUDA, self._dtype)


def packed_kernel(tiny: Tiny, dtype: torch.dtype) -> PackedKernel | None:
    return find_packed_kernel(read_gpu(CUDA), tiny.config.attention, dtype, CUDA)


def cuda_engine(tiny: Tiny, dtype: torch.dtype, **changes: object) -> StageEngine:
    kernel = packed_kernel(tiny, dtype)
    options = tiny.engine_options(device=CUDA, dtype=dtype, packed_kernel=kernel, **changes)
    return StageEngine(tiny.config, OnDevice(tiny, dtype), options)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_greedy_tokens_in_float32_equal_those_of_transformers(
    make_tiny: MakeTiny, shape: Shape, equality: TokenEquality
) -> None:
    tiny = make_tiny(shape)
    sampling = SamplingParameters(24, seed=0, temperature=0, ignore_eos=True)
    requests = [Request(f"{n}", 1, tiny.prompt(n), sampling) for n in (1, 2, 17, 64, 130)]

    results = generate(cuda_engine(tiny, torch.float32, max_step_tokens=48), *requests)

    for request in requests:
        expected = tiny.reference_tokens(request.prompt_ids, 24)

        def is_near_tie(index: int, prompt: tuple[int, ...] = request.prompt_ids) -> bool:
            tokens = prompt + tuple(expected[:index])  # noqa: B023  # asked within this turn
            return is_greedy_near_tie(tiny.reference_logits(tokens)[-1])

        tokens = results[request.request_id].token_ids
        equality.compare(request.request_id, tokens, expected, is_near_tie)
    equality.check()


@needs_packed_kernel
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("num_kv_heads", [1, 3, 9])
@pytest.mark.parametrize("head_dim", [8, 64, 128])
def test_the_packed_kernel_agrees_with_the_plain_one(
    dtype: torch.dtype, num_kv_heads: int, head_dim: int
) -> None:
    """Decodes, a first chunk and a later chunk, out of order and with gaps in the cache."""
    torch.manual_seed(1)
    kernel = known_operator(torch.ops.aten)
    assert kernel is not None
    mixed = (Span(0, 1, 900, 77), Span(1, 40, 10, 40), Span(41, 30, 300, 500), Span(71, 1, 200, 1))
    decodes = tuple(Span(row, 1, 1000 - 150 * row, 150 - row) for row in range(6))
    for spans in (mixed, decodes):
        num_rows = spans[-1].row_end
        queries = torch.randn(num_rows, 9, head_dim, device=CUDA, dtype=dtype)
        keys, values = torch.randn(2, 1200, num_kv_heads, head_dim, device=CUDA, dtype=dtype)

        for window in (None, 1, 33):
            scores = Scores(head_dim**-0.5, window=window)

            packed = PackedAttention(PackedRanges.of_spans(spans, CUDA), scores, kernel)(
                queries, keys, values
            )

            plain = SpanAttention(spans, scores, torch.float32, CUDA)
            expected = plain(queries.float(), keys.float(), values.float())
            assert (packed.float() - expected).abs().max() <= 0.02


@needs_packed_kernel
@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("num_rows", [1, 3, 8])
def test_a_captured_decode_agrees_with_one_step_by_step(
    tiny: Tiny, dtype: torch.dtype, num_rows: int
) -> None:
    outputs = []
    kernel = packed_kernel(tiny, dtype)
    assert kernel is not None
    for graphs in (None, CudaGraphs(kernel)):
        options = tiny.engine_options(device=CUDA, dtype=dtype, graphs=graphs, packed_kernel=kernel)
        whole = Place.whole(tiny.config.num_layers)
        executor = Executor.build(tiny.config, OnDevice(tiny, dtype), options, whole)
        for _ in executor.load_units():
            pass
        prompts = tuple(Piece(64 * row, 0, 5 + 3 * row, True) for row in range(num_rows))
        decodes = tuple(Piece(64 * row, 5 + 3 * row, 1, True) for row in range(num_rows))
        for number, pieces in enumerate((prompts, decodes)):
            batch = MicroBatch(number, (), pieces)
            token_ids = list(tiny.prompt(batch.num_tokens))
            hidden = executor.run(batch, executor.embed(token_ids, batch.positions))
            while executor.optimize_step():  # between the prompts and the decodes
                pass
        outputs.append(hidden.float().clone())
    eager, replayed = outputs
    assert (eager - replayed).abs().max() <= 0.03 * eager.abs().max()


@needs_packed_kernel
def test_bfloat16_runs_many_requests_at_once(tiny: Tiny) -> None:
    sampling = SamplingParameters(
        20, seed=5, temperature=0.8, top_p=0.9, ignore_eos=True, num_logprobs=2
    )
    requests = [Request(f"{n}", 1, tiny.prompt(3 + 7 * n), sampling) for n in range(8)]

    results = generate(cuda_engine(tiny, torch.bfloat16, max_step_tokens=32), *requests)

    assert all(len(result.token_ids) == 20 for result in results.values())
    assert all(result.last.error is None for result in results.values())


@pytest.mark.parametrize("shape", SHAPES[:3], ids=lambda shape: shape.name)
def test_float16_computes_chunk_by_chunk_where_there_is_no_kernel(
    make_tiny: MakeTiny, shape: Shape
) -> None:
    """What GPUs before Ampere do; newer ones do it here by choice."""
    tiny = make_tiny(shape)
    sampling = SamplingParameters(20, seed=5, temperature=0, ignore_eos=True)
    requests = [Request(f"{n}", 1, tiny.prompt(n), sampling) for n in (1, 17, 130)]
    options = tiny.engine_options(device=CUDA, dtype=torch.float16, max_step_tokens=48)

    engine = StageEngine(tiny.config, OnDevice(tiny, torch.float16), options)

    results = generate(engine, *requests)
    assert all(len(result.token_ids) == 20 for result in results.values())
    assert all(result.last.error is None for result in results.values())
