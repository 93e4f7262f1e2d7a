"""Decode steps as graphs, on a backend that does again what it was shown."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from libs.common.sampling import SamplingParameters
from services.worker.engine.attention.attention import Attention
from services.worker.engine.attention.by_span import SpanAttention
from services.worker.engine.attention.spans import Scores, Span
from services.worker.engine.engine import StageEngine
from services.worker.engine.execution.cuda_graph import CudaGraphs
from services.worker.engine.execution.decode_graphs import batch_sizes, length_bucket
from services.worker.engine.execution.follower import Follower
from services.worker.engine.execution.graphs import Decodes, Replay
from services.worker.engine_port import Request
from tests.support.failures import require_same_tokens
from tests.support.fakeflash import FlashDouble
from tests.unit.worker.engine.families import FAMILIES
from tests.unit.worker.engine.imported import Imported
from tests.unit.worker.engine.pipelines import make_pipeline
from tests.unit.worker.engine.tiny import SHAPES, Generated, Shape, Subject, Tiny, generate

LONG_CONTEXT = 4096
MakeTiny = Callable[[Shape], Tiny]
GREEDY = SamplingParameters(12, seed=0, temperature=0, ignore_eos=True)


class FakeGraphs:
    """Replays by computing again; `failing_capture` counts from 1."""

    def __init__(self, failing_capture: int = 0) -> None:
        self._failing_capture = failing_capture
        self.num_captures = 0
        self.replayed_rows: list[int] = []
        self.replayed_lengths: list[int] = []  # the most keys that attention was told of
        self._told_length = 0

    def attention(self, decodes: Decodes, scores: Scores, max_length: int) -> Attention:
        self._told_length = max_length

        def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
            starts, lengths = decodes.kv_starts.tolist(), decodes.kv_lengths.tolist()
            rows = []
            for row, (start, length) in enumerate(zip(starts, lengths, strict=False)):
                assert length <= max_length
                first = start + max(0, length - (scores.window or length))
                seen = slice(first, start + length)
                attended = F.scaled_dot_product_attention(
                    queries[row].unsqueeze(1),
                    keys[seen].transpose(0, 1),
                    values[seen].transpose(0, 1),
                    scale=scores.scale,
                    enable_gqa=True,
                )
                rows.append(attended.flatten())
            return torch.stack(rows)

        return attend

    def capture(self, compute: Callable[[], torch.Tensor]) -> Replay:
        self.num_captures += 1
        if self.num_captures == self._failing_capture:
            raise RuntimeError("operation not permitted when stream is capturing")

        def replay() -> torch.Tensor:
            output = compute()
            self.replayed_rows.append(len(output))
            self.replayed_lengths.append(self._told_length)
            return output

        return replay


def requests(
    tiny: Subject, lengths: Sequence[int], sampling: SamplingParameters = GREEDY
) -> list[Request]:
    return [Request(f"request-{n}", 1, tiny.prompt(n), sampling) for n in lengths]


def tokens_of(results: Mapping[str, Generated]) -> dict[str, list[int]]:
    return {request_id: result.token_ids for request_id, result in results.items()}


def warmed(tiny: Subject, graphs: FakeGraphs, **options: object) -> StageEngine:
    """An engine that has answered once and captured all that it wants."""
    engine = tiny.engine(graphs=graphs, **options)
    for _ in engine.load_units():
        assert not engine.optimize_step()
    generate(
        engine, Request("first", 1, tiny.prompt(5), SamplingParameters(1, seed=0, temperature=0))
    )
    while engine.optimize_step():
        pass
    return engine


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_tokens_are_those_of_eager_steps(make_tiny: MakeTiny, shape: Shape) -> None:
    tiny, graphs = make_tiny(shape), FakeGraphs()
    asked = requests(tiny, (1, 2, 9, 30, 41))
    expected = generate(tiny.engine(), *asked)

    results = generate(warmed(tiny, graphs), *asked)

    require_same_tokens(tokens_of(results), tokens_of(expected))
    assert set(graphs.replayed_rows) == {8}  # five rows fill up the next size


def test_every_step_of_decodes_alone_is_a_replay_of_the_next_size(tiny: Tiny) -> None:
    graphs = FakeGraphs()
    engine = warmed(tiny, graphs, max_running=6)
    for count, size in ((1, 1), (2, 2), (3, 4), (5, 6)):
        graphs.replayed_rows.clear()
        generate(engine, *requests(tiny, range(3, 3 + count)))
        assert graphs.replayed_rows == [size] * (GREEDY.max_tokens - 1)


def test_prompts_beside_decodes_are_no_replay(tiny: Tiny) -> None:
    graphs = FakeGraphs()
    engine = warmed(tiny, graphs, max_step_tokens=8)
    asked = requests(tiny, [3, 60])
    expected = generate(tiny.engine(), *asked)

    results = generate(engine, *asked)

    require_same_tokens(tokens_of(results), tokens_of(expected))
    # While the long prompt is computed in parts the other one decodes.
    assert 0 < sum(rows == 1 for rows in graphs.replayed_rows) < 2 * (GREEDY.max_tokens - 1)


def test_nothing_is_captured_before_the_first_token(tiny: Tiny) -> None:
    graphs = FakeGraphs()
    engine = tiny.engine(graphs=graphs)
    engine.add_request(Request("first", 1, tiny.prompt(40), GREEDY))
    while not any(output.token_ids for output in engine.step()):
        assert not engine.optimize_step()
    assert graphs.num_captures == 0
    for _ in engine.load_units():
        pass
    assert engine.optimize_step() and graphs.num_captures == 1


def test_a_size_that_cannot_be_captured_is_computed_step_by_step(
    tiny: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    graphs = FakeGraphs(failing_capture=3)
    engine = warmed(tiny, graphs)
    asked = requests(tiny, (4, 7, 8))
    expected = generate(tiny.engine(), *asked)

    results = generate(engine, *asked)

    require_same_tokens(tokens_of(results), tokens_of(expected))
    assert graphs.replayed_rows == [] and graphs.num_captures == 3
    assert "no graph of 4 decodes" in caplog.text
    generate(engine, *requests(tiny, [5]))
    assert set(graphs.replayed_rows) == {1}  # what was captured before still serves


def test_a_capture_leaves_the_running_sequences_alone(tiny: Tiny) -> None:
    asked = requests(tiny, (4, 20))
    expected = generate(tiny.engine(), *asked)
    engine = tiny.engine(graphs=FakeGraphs())
    for _ in engine.load_units():
        pass
    tokens: dict[str, list[int]] = {request.request_id: [] for request in asked}
    for request in asked:
        engine.add_request(request)
    while not engine.is_idle or not all(tokens.values()):
        for output in engine.step():
            tokens[output.request_id] += output.token_ids
        engine.optimize_step()
    require_same_tokens(tokens, tokens_of(expected))


def test_windows_are_those_of_each_layer(tmp_path: Path) -> None:
    mistral = next(family for family in FAMILIES if family.name == "mistral")
    model, graphs = Imported(mistral.build(next(iter(mistral.shapes))), tmp_path), FakeGraphs()
    assert any(model.config.attention.windows)
    asked = requests(model, (3, 50))
    expected = generate(model.engine(), *asked)

    results = generate(warmed(model, graphs), *asked)

    require_same_tokens(tokens_of(results), tokens_of(expected))
    assert graphs.replayed_rows


def test_every_stage_of_a_pipeline_replays(tiny: Tiny) -> None:
    graphs = FakeGraphs()
    layers = [range(0, 1), range(1, 3)]
    pipeline = make_pipeline(tiny, layers, random.Random(3), graphs=graphs)
    generate(pipeline.engine, *requests(tiny, [5]))
    stages: list[StageEngine | Follower] = [pipeline.engine, *pipeline.followers]
    for stage in stages:
        while stage.optimize_step():
            pass
    asked = requests(tiny, (4, 9))
    expected = generate(tiny.engine(), *asked)

    results = generate(pipeline.engine, *asked)

    require_same_tokens(tokens_of(results), tokens_of(expected))
    # One sequence to a micro-batch, each through two stages; some decodes share a prompt's.
    assert set(graphs.replayed_rows) == {1}
    assert len(graphs.replayed_rows) >= 2 * 2 * (GREEDY.max_tokens - 3)


class LongTiny(Tiny):
    """As if its rotary embedding had been made for long contexts."""

    def __init__(self, folder: Path) -> None:
        super().__init__(SHAPES[0], folder)
        self.config = replace(self.config, max_context_tokens=LONG_CONTEXT)

    def engine(self, **changes: object) -> StageEngine:
        options: dict[str, object] = {"max_context_tokens": LONG_CONTEXT, "kv_tokens": LONG_CONTEXT}
        return super().engine(**(options | changes))


def test_attention_is_told_of_lengths_near_the_longest_sequences_not_of_the_contexts_limit(
    tmp_path: Path,
) -> None:
    tiny, graphs = LongTiny(tmp_path), FakeGraphs()
    engine = warmed(tiny, graphs)
    num_first = graphs.num_captures
    for num_tokens, told in ((5, 512), (600, 1024), (20, 512), (1020, 2048)):
        asked = [Request(f"{num_tokens}", 1, tiny.prompt(num_tokens), GREEDY)]
        expected = generate(tiny.engine(), *asked)
        generate(engine, replace(asked[0], request_id="the first of that length"))
        while engine.optimize_step():
            pass
        graphs.replayed_lengths.clear()

        results = generate(engine, *asked)

        require_same_tokens(tokens_of(results), tokens_of(expected))
        assert graphs.replayed_lengths[-1] == told
        assert len(graphs.replayed_lengths) == GREEDY.max_tokens - 1
    assert graphs.num_captures == num_first + 2  # one row of 1024, one of 2048


def test_until_a_length_is_captured_a_longer_graph_serves_and_else_none(tmp_path: Path) -> None:
    tiny, graphs = LongTiny(tmp_path), FakeGraphs()
    engine = warmed(tiny, graphs)
    generate(engine, Request("long", 1, tiny.prompt(1100), GREEDY))
    assert graphs.replayed_lengths == []  # step by step
    while engine.optimize_step():
        pass

    generate(engine, Request("shorter", 1, tiny.prompt(600), GREEDY))

    assert set(graphs.replayed_lengths) == {2048}


def test_the_kernel_on_a_gpu_is_told_what_the_graph_was_made_for() -> None:
    kernel = FlashDouble()
    numbers = [torch.tensor(values) for values in ((2, 4), (12, 4), (10, 0, 0), (3, 5))]
    queries, (keys, values) = torch.randn(2, 4, 8), torch.randn(2, 20, 2, 8).unbind()

    attention = CudaGraphs(kernel).attention(Decodes(*numbers), Scores(0.25), 1024)

    spans = (Span(0, 1, 10, 3), Span(1, 1, 0, 5))
    plain = SpanAttention(spans, Scores(0.25), torch.float32, torch.device("cpu"))
    difference = attention(queries, keys, values) - plain(queries, keys, values)
    assert difference.abs().max() < 1e-5
    assert kernel.max_lengths == [1024]


@pytest.mark.parametrize(
    ("length", "limit", "bucket"),
    [
        (1, 4096, 512),
        (512, 4096, 512),
        (513, 4096, 1024),
        (2048, 4096, 2048),
        (3000, 3500, 3500),  # never beyond the context's limit
        (100, 256, 256),
    ],
)
def test_lengths_double_up_to_the_contexts_limit(length: int, limit: int, bucket: int) -> None:
    assert length_bucket(length, limit) == bucket


@pytest.mark.parametrize(
    ("max_rows", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_sizes_double_up_to_the_most_rows(max_rows: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(max_rows) == sizes
