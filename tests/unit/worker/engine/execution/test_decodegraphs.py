"""Decode steps as graphs, on a backend that does again what it was shown."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from libs.common.sampling import SamplingParameters
from services.worker.engine.attention.attention import Attention
from services.worker.engine.attention.spans import Scores
from services.worker.engine.engine import StageEngine
from services.worker.engine.execution.decode_graphs import batch_sizes
from services.worker.engine.execution.follower import Follower
from services.worker.engine.execution.graphs import Decodes, Replay
from services.worker.engine_port import Request
from tests.support.failures import require_same_tokens
from tests.unit.worker.engine.families import FAMILIES
from tests.unit.worker.engine.imported import Imported
from tests.unit.worker.engine.pipelines import make_pipeline
from tests.unit.worker.engine.tiny import SHAPES, Generated, Shape, Subject, Tiny, generate

MakeTiny = Callable[[Shape], Tiny]
GREEDY = SamplingParameters(12, seed=0, temperature=0, ignore_eos=True)


class FakeGraphs:
    """Replays by computing again; `failing_capture` counts from 1."""

    def __init__(self, failing_capture: int = 0) -> None:
        self._failing_capture = failing_capture
        self.num_captures = 0
        self.replayed_rows: list[int] = []

    def attention(self, decodes: Decodes, scores: Scores, max_length: int) -> Attention:
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


@pytest.mark.parametrize(
    ("max_rows", "sizes"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))]
)
def test_sizes_double_up_to_the_most_rows(max_rows: int, sizes: tuple[int, ...]) -> None:
    assert batch_sizes(max_rows) == sizes
