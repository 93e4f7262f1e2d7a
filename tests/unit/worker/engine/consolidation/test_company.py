"""A pipeline that becomes one worker under load: arrivals, cancellations, preemptions, losses."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libs.common.states import FinishReason
from services.worker.engine_port import KvTransfer, Request
from services.worker.frames.dataplane import Security
from tests.support.equality import TokenEquality
from tests.unit.worker.engine.consolidation.consolidating import (
    NEVER_SLOW,
    Result,
    Subjects,
)
from tests.unit.worker.engine.consolidation.lanes import make_subjects
from tests.unit.worker.engine.consolidation.sockets import socket_subjects
from tests.unit.worker.engine.execution.test_pipeline import random_request
from tests.unit.worker.engine.pipelines import layers_of
from tests.unit.worker.engine.test_generation import greedy, near_tie, seeded
from tests.unit.worker.engine.tiny import Tiny, generate

NUM_LAYERS = 3
NUM_TOKENS = 130  # more than a region has room for at first
BEGINS_AT_STEP = 12
MAX_STEPS = 20_000
CROWDED = {"kv_tokens": 700, "max_step_tokens": 40}  # regions of eight do not fit
Expected = Callable[[Request], list[int]]


@pytest.fixture
def expected(tiny: Tiny) -> Expected:
    return lambda request: tokens_alone(tiny, request)


@cache
def tokens_alone(tiny: Tiny, request: Request) -> list[int]:
    return generate(tiny.engine(), request)[request.request_id].token_ids


@dataclass(frozen=True)
class Scenario:
    cuts: tuple[int, ...]
    seed: int
    num_requests: int
    kv_tokens: int  # few: regions are moved, and sequences give theirs up
    begins_at_step: int
    cancel_share: float
    lose_share: float
    is_slow: bool  # a switch that is not done at once is tried again
    transfer: KvTransfer
    link_bytes_per_s: int


SCENARIOS = st.builds(
    Scenario,
    cuts=st.lists(st.integers(0, NUM_LAYERS), min_size=1, max_size=3).map(tuple),
    seed=st.integers(0, 2**16),
    num_requests=st.integers(1, 10),
    kv_tokens=st.sampled_from([40, 90, 300]),
    begins_at_step=st.integers(0, 60),
    cancel_share=st.sampled_from([0.0, 0.2]),
    lose_share=st.sampled_from([0.0, 0.05]),
    is_slow=st.booleans(),
    transfer=st.sampled_from(KvTransfer),
    link_bytes_per_s=st.sampled_from([0, 300_000]),
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(scenario=SCENARIOS)
def test_whatever_happens_meanwhile_tokens_are_right_and_nothing_leaks(
    tiny: Tiny, expected: Expected, equality: TokenEquality, scenario: Scenario
) -> None:
    chance = random.Random(scenario.seed)
    subjects = make_subjects(
        tiny,
        layers_of(scenario.cuts, NUM_LAYERS),
        chance,
        lose_share=scenario.lose_share,
        kv_tokens=scenario.kv_tokens,
        max_step_tokens=20,
        max_running=4,
    )
    waiting = [random_request(tiny, chance, n) for n in range(scenario.num_requests)]
    requests = {request.request_id: request for request in waiting}
    results = {name: Result() for name in requests}
    options = replace(
        NEVER_SLOW, transfer=scenario.transfer, link_bytes_per_s=scenario.link_bytes_per_s
    )
    if scenario.is_slow:
        options = replace(options, freeze_timeout_s=0, retry_s=0)

    for step in range(20_000):
        if step == scenario.begins_at_step:
            subjects.begin(options)
        while waiting and chance.random() < 0.5:
            subjects.engine.add_request(waiting.pop())
        if chance.random() < scenario.cancel_share:
            subjects.engine.cancel(chance.choice(list(requests)), 1)
        subjects.engine.optimize_step()
        for output in subjects.engine.step():
            results[output.request_id].add(output)
        has_ended = subjects.told.names[-1:] in (["stepped"], ["abandoned"])
        if has_ended and all(result.finish for result in results.values()):
            break

    assert all(result.finish for result in results.values())
    assert subjects.engine.stats.kv_used_bytes == 0 and subjects.kv.is_closed
    if subjects.told.result is not None:
        subjects.close_ring()
    else:
        assert scenario.is_slow or scenario.lose_share, subjects.told.why
    for name, request in requests.items():
        tokens = results[name].token_ids
        is_whole = len(tokens) == request.sampling.max_tokens
        assert is_whole or results[name].finish is FinishReason.CANCELLED
        told = expected(request)[: len(tokens)]
        equality.compare(name, tokens, told, near_tie(tiny, request, told))


def eight_together(
    subjects: Subjects, tiny: Tiny, expected: Expected, equality: TokenEquality
) -> None:
    requests = [
        greedy(f"r{n}", tiny.prompt(3 + 9 * n, n), NUM_TOKENS)
        if n % 2
        else seeded(f"r{n}", tiny.prompt(3 + 9 * n, n), n, NUM_TOKENS)
        for n in range(8)
    ]
    late = greedy("late", tiny.prompt(11, 77), 30)
    results = {request.request_id: Result() for request in (*requests, late)}
    for request in requests[:-1]:
        subjects.engine.add_request(request)

    during_copy = iter([late, requests[-1]])
    for step in range(MAX_STEPS):
        if step == BEGINS_AT_STEP:
            subjects.begin(replace(NEVER_SLOW, link_bytes_per_s=1_000_000))
        if subjects.told.names == ["loaded", "copying"]:
            subjects.engine.cancel("r2", 1)
            if joining := next(during_copy, None):
                subjects.engine.add_request(joining)
        subjects.engine.optimize_step()
        for output in subjects.engine.step():
            results[output.request_id].add(output)
        if all(result.finish for result in results.values()):
            break

    result = subjects.told.result
    assert result is not None and result.transfer is KvTransfer.MOVE
    assert result.precopied_bytes > 0
    assert results["r2"].finish is FinishReason.CANCELLED
    lengths = {r.request_id: len(r.prompt_ids) for r in (*requests, late)}
    num_once = sum(lengths[name] + len(result.token_ids) for name, result in results.items())
    num_computed = subjects.engine.stats.num_tokens_computed
    assert num_computed > num_once, "one that gave its region up computes its tokens again"
    subjects.close_ring()
    for request in (*requests, late):
        tokens = results[request.request_id].token_ids
        told = expected(request)[: len(tokens)]
        equality.compare(request.request_id, tokens, told, near_tie(tiny, request, told))
    equality.check()


def test_eight_together_one_preempted_one_cancelled_one_that_arrives_during_the_copy(
    tiny: Tiny, expected: Expected, equality: TokenEquality
) -> None:
    layers = layers_of((1, 2), NUM_LAYERS)
    subjects = make_subjects(tiny, layers, random.Random(8), **CROWDED)
    eight_together(subjects, tiny, expected, equality)


def test_eight_together_over_sockets(
    tiny: Tiny, expected: Expected, equality: TokenEquality
) -> None:
    layers = layers_of((1, 2), NUM_LAYERS)
    with socket_subjects(tiny, layers, random.Random(8), Security.CURVE, **CROWDED) as subjects:
        eight_together(subjects, tiny, expected, equality)
