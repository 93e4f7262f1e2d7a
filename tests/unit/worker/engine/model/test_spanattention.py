"""Whatever company a chunk has, its rows see their own keys and no others."""

import random

import pytest
import torch

from services.worker.engine.attention.by_span import SpanAttention
from services.worker.engine.attention.decode import MAX_GATHERED_KEYS
from services.worker.engine.attention.spans import Scores, Span

HEAD_DIM = 16
NUM_SLOTS = 3_000
CPU = torch.device("cpu")
SCORES = {
    "plain": Scores(0.25),
    "windowed": Scores(0.25, window=20),
    "capped": Scores(0.25, cap=2.0),
    "capped and windowed": Scores(0.25, cap=2.0, window=20),
}


def spans_of(*shapes: tuple[int, int], chance: random.Random) -> tuple[Span, ...]:
    """Of (rows, keys), one after the other in the step, anywhere in the cache."""
    spans, row = [], 0
    for num_rows, num_keys in shapes:
        start = chance.randrange(NUM_SLOTS - num_keys)  # they may overlap: nobody writes
        spans.append(Span(row, num_rows, start, num_keys))
        row += num_rows
    return tuple(spans)


def exact(
    spans: tuple[Span, ...], scores: Scores, tensors: tuple[torch.Tensor, ...]
) -> torch.Tensor:
    """Row by row and head by head, in float64."""
    queries, keys, values = (tensor.double() for tensor in tensors)
    share = queries.shape[1] // keys.shape[1]
    output = torch.empty_like(queries)
    for span in spans:
        for row in range(span.num_rows):
            end = span.kv_length - span.num_rows + row + 1
            first = 0 if scores.window is None else max(0, end - scores.window)
            seen = slice(span.kv_start + first, span.kv_start + end)
            for head in range(queries.shape[1]):
                products = keys[seen, head // share] @ queries[span.row_start + row, head]
                products = products * scores.scale
                if scores.cap is not None:
                    products = (products / scores.cap).tanh() * scores.cap
                shares = products.softmax(0)
                output[span.row_start + row, head] = shares @ values[seen, head // share]
    return output.flatten(1)


@pytest.mark.parametrize("scores", SCORES.values(), ids=SCORES.keys())
@pytest.mark.parametrize("num_kv_heads", [1, 2, 6])
@pytest.mark.parametrize("has_grouped_kernel", [True, False], ids=["as a CPU", "as a GPU"])
def test_decodes_of_all_lengths_beside_chunks(
    scores: Scores, num_kv_heads: int, has_grouped_kernel: bool
) -> None:
    chance = random.Random(4)
    lengths = (1, 40, 63, 64, 65, 90, 100, 100, 7, MAX_GATHERED_KEYS, MAX_GATHERED_KEYS + 1, 900)
    shapes = [(1, length) for length in lengths]
    spans = spans_of((5, 30), *shapes, (12, 12), (1, 64), (3, 600), chance=chance)
    torch.manual_seed(1)
    num_rows = spans[-1].row_end
    queries = torch.randn(num_rows, 6, HEAD_DIM)
    keys, values = torch.randn(2, NUM_SLOTS, num_kv_heads, HEAD_DIM).unbind()

    attention = SpanAttention(
        *(spans, scores, torch.float32, CPU), has_grouped_kernel=has_grouped_kernel
    )
    output = attention(queries, keys, values)

    expected = exact(spans, scores, (queries, keys, values))
    assert (output - expected).abs().max() < 1e-5


def test_decodes_of_one_length_need_no_mask_and_unequal_ones_do_not_see_beyond_their_end() -> None:
    chance = random.Random(5)
    for lengths in ((70, 70, 70), (70, 71, 100)):
        spans = spans_of(*((1, length) for length in lengths), chance=chance)
        queries = torch.randn(3, 4, HEAD_DIM)
        keys, values = torch.full((2, NUM_SLOTS, 2, HEAD_DIM), float("nan")).unbind()
        for span in spans:
            keys[span.kv_start : span.kv_start + span.kv_length] = 1.0
            values[span.kv_start : span.kv_start + span.kv_length] = float(span.kv_length)

        attention = SpanAttention(spans, Scores(0.25), torch.float32, CPU)

        output = attention(queries, keys, values)
        assert output.isfinite().all()
