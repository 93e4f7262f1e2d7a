"""Several stages give the tokens of one, whatever the split, the company and the timing."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.sampling import SamplingParameters
from libs.common.states import FinishReason
from services.worker.engine.errors import MicroBatchRefused
from services.worker.engine.execution.microbatch import MicroBatch
from services.worker.engine_port import Request
from tests.support.equality import TokenEquality
from tests.support.failures import require_same_tokens
from tests.unit.worker.engine.pipelines import layers_of, make_pipeline
from tests.unit.worker.engine.test_generation import greedy, near_tie, seeded
from tests.unit.worker.engine.tiny import SHAPES, Shape, Tiny, generate

NUM_LAYERS = 3
ENOUGH_COMPARED = 50  # for a share of ties to mean something
SPLITS = [
    cuts
    for num_cuts in range(4)
    for cuts in combinations_with_replacement(range(NUM_LAYERS + 1), num_cuts)
]


def requests_of(tiny: Tiny, number: int) -> list[Request]:
    lengths = (1, 5, 33, 70, 18, 2)
    return [
        greedy(f"greedy {n}", tiny.prompt(length, number), 12)
        if n % 2
        else seeded(f"seeded {n}", tiny.prompt(length, number), n, 12)
        for n, length in enumerate(lengths)
    ]


@pytest.mark.parametrize("cuts", SPLITS, ids=str)
def test_every_split_gives_the_tokens_of_the_whole_model(
    tiny: Tiny, cuts: tuple[int, ...], equality: TokenEquality
) -> None:
    requests = requests_of(tiny, 0)
    alone = {r.request_id: generate(tiny.engine(), r)[r.request_id].token_ids for r in requests}
    pipeline = make_pipeline(
        tiny, layers_of(cuts, NUM_LAYERS), random.Random(1), max_step_tokens=40
    )

    results = generate(pipeline.engine, *requests)

    for request in requests:
        expected = alone[request.request_id]
        tokens = results[request.request_id].token_ids
        tie = near_tie(tiny, request, expected)
        equality.compare(request.request_id, tokens, expected, tie)
    equality.check()
    assert pipeline.engine.stats.kv_used_bytes == 0


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_two_stages_give_the_tokens_of_transformers(
    make_tiny: Callable[[Shape], Tiny], shape: Shape, equality: TokenEquality
) -> None:
    tiny = make_tiny(shape)
    layers = layers_of((shape.num_layers // 2,), shape.num_layers)
    for length in (1, 17, 64):
        request = greedy(f"length {length}", tiny.prompt(length), 16)
        expected = tiny.reference_tokens(request.prompt_ids, 16)
        pipeline = make_pipeline(tiny, layers, random.Random(length), max_step_tokens=48)

        tokens = generate(pipeline.engine, request)[request.request_id].token_ids

        equality.compare(request.request_id, tokens, expected, near_tie(tiny, request, expected))
    equality.check()


@dataclass(frozen=True)
class Scenario:
    cuts: tuple[int, ...]
    seed: int
    num_requests: int
    kv_tokens: int
    max_step_tokens: int
    cancel_share: float


SCENARIOS = st.builds(
    Scenario,
    cuts=st.lists(st.integers(0, NUM_LAYERS), max_size=3).map(tuple),
    seed=st.integers(0, 2**16),
    num_requests=st.integers(1, 10),
    kv_tokens=st.sampled_from([40, 90, 300]),
    max_step_tokens=st.sampled_from([8, 20, 64]),
    cancel_share=st.sampled_from([0.0, 0.3]),
)


@pytest.fixture(scope="module")
def expected_tokens() -> Callable[[Tiny, Request], list[int]]:
    """What a request gives alone on the whole model; made once."""

    @cache
    def tokens(tiny: Tiny, request: Request) -> list[int]:
        return generate(tiny.engine(), request)[request.request_id].token_ids

    return tokens


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(scenario=SCENARIOS)
def test_under_random_arrivals_and_cancellations_tokens_are_right_and_nothing_leaks(
    tiny: Tiny,
    expected_tokens: Callable[[Tiny, Request], list[int]],
    equality: TokenEquality,
    scenario: Scenario,
) -> None:
    chance = random.Random(scenario.seed)
    pipeline = make_pipeline(
        tiny,
        layers_of(scenario.cuts, NUM_LAYERS),
        chance,
        kv_tokens=scenario.kv_tokens,
        max_step_tokens=scenario.max_step_tokens,
        max_running=4,
    )
    engine = pipeline.engine
    waiting = [random_request(tiny, chance, n) for n in range(scenario.num_requests)]
    requests = {request.request_id: request for request in waiting}
    tokens: dict[str, list[int]] = {name: [] for name in requests}
    ended: dict[str, FinishReason] = {}

    for _ in range(2_000):
        while waiting and chance.random() < 0.5:
            engine.add_request(waiting.pop())
        if chance.random() < scenario.cancel_share:
            engine.cancel(chance.choice(list(requests)), 1)
        for output in engine.step():
            assert output.request_id not in ended
            assert output.start_index == len(tokens[output.request_id])
            tokens[output.request_id] += output.token_ids
            if output.finish is not None:
                ended[output.request_id] = output.finish
        if len(ended) == len(requests) and engine.is_idle:
            break

    assert sorted(ended) == sorted(requests)
    assert engine.stats.kv_used_bytes == 0
    assert all(not lane.messages for lane in pipeline.lanes)
    for name, request in requests.items():
        expected = expected_tokens(tiny, request)[: len(tokens[name])]
        assert len(tokens[name]) == request.sampling.max_tokens or ended[name] == "cancelled"
        equality.compare(name, tokens[name], expected, near_tie(tiny, request, expected))
    if equality.num_compared >= ENOUGH_COMPARED:
        equality.check()


def random_request(tiny: Tiny, chance: random.Random, number: int) -> Request:
    """Greedy or seeded, of a few kinds, so that what each gives alone is made once."""
    prompt, num_tokens = tiny.prompt(chance.choice((1, 6, 25)), number), chance.choice((1, 5, 14))
    if chance.random() < 0.5:
        return greedy(f"r{number}", prompt, num_tokens)
    return seeded(f"r{number}", prompt, number, num_tokens)


def test_decodes_are_spread_so_that_every_stage_has_work(tiny: Tiny) -> None:
    pipeline = make_pipeline(tiny, layers_of((1, 2), NUM_LAYERS), random.Random(0))
    engine, lane = pipeline.engine, pipeline.lanes[0]
    for n in range(6):
        engine.add_request(greedy(f"r{n}", tiny.prompt(3, n), 30))

    sizes: set[int] = set()
    for _ in range(30):
        engine.step()
        sizes |= {batch.num_tokens for batch in lane.batches}

    assert pipeline.lanes[0].num_sent >= 20
    assert max(sizes & set(range(1, 6))) <= 2  # decodes of six requests over three micro-batches


def test_what_a_cancelled_request_left_in_flight_is_dropped(tiny: Tiny) -> None:
    pipeline = make_pipeline(tiny, layers_of((1,), NUM_LAYERS), random.Random(0))
    engine = pipeline.engine
    engine.add_request(greedy("gone", tiny.prompt(20), 30))
    engine.add_request(greedy("stays", tiny.prompt(20, 1), 30))
    while not any(output.token_ids for output in engine.step()):
        continue
    engine.cancel("gone", 1)

    outputs = [output for _ in range(200) for output in engine.step()]

    gone = [output for output in outputs if output.request_id == "gone"]
    assert [(output.finish, output.token_ids) for output in gone][-1] == ("cancelled", ())
    assert len([o for o in outputs if o.request_id == "stays"]) >= 28
    assert engine.is_idle and engine.stats.kv_used_bytes == 0


def test_a_micro_batch_that_comes_back_out_of_order_ends_the_engine(tiny: Tiny) -> None:
    pipeline = make_pipeline(tiny, layers_of((1,), NUM_LAYERS), random.Random(0))
    pipeline.engine.add_request(greedy("r", tiny.prompt(5), 3))
    pipeline.lanes[-1].put(MicroBatch(7, (), ()), torch.empty(1, tiny.config.hidden_size))

    with pytest.raises(MicroBatchRefused, match="micro-batch 7 came back"):
        pipeline.engine.step()


def test_sampling_of_a_pipeline_takes_its_own_seed(tiny: Tiny) -> None:
    sampling = SamplingParameters(10, seed=3, temperature=0.8, ignore_eos=True)
    request = Request("r", 1, tiny.prompt(9), sampling)
    pipeline = make_pipeline(tiny, layers_of((0, 3), NUM_LAYERS), random.Random(0))

    results = generate(pipeline.engine, request)

    expected = generate(tiny.engine(), request)["r"].token_ids
    require_same_tokens(results["r"].token_ids, expected)
