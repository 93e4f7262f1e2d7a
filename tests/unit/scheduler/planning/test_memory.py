import pytest

from libs.common.engines import LEAST_WORKER_BYTES, PRIORS
from libs.common.states import EngineKind
from services.scheduler.policy.planning.memory import (
    context_tokens,
    full_bytes,
    kv_budget_bytes,
    worker_bytes,
)
from tests.unit.scheduler.values import model, summary


@pytest.mark.parametrize(
    ("limit", "expected", "reason"),
    [
        (None, 1024, "the checkpoint's own"),
        (100, 100, "the registered limit is lower"),
        (5000, 1024, "nobody goes beyond the checkpoint"),
    ],
)
def test_the_context_is_the_smaller_of_both_limits(
    limit: int | None, expected: int, reason: str
) -> None:
    assert context_tokens(model(max_context_tokens=limit), summary()) == expected, reason


def test_the_context_is_no_longer_than_the_kv_cache_holds_and_the_token_after_it() -> None:
    small = model(kv_cache_bytes=200, max_context_tokens=100)

    assert context_tokens(small, summary(kv_bytes_per_token=10)) == 21


@pytest.mark.parametrize(
    ("changes", "expected_tokens", "reason"),
    [
        ({"max_slots": 1}, 1024, "one full context at least"),
        ({"max_slots": 8}, 4096, "512 tokens for each slot"),
        ({"max_slots": 1, "max_context_tokens": 10}, 512, "a slot's share is more than a context"),
    ],
)
def test_the_kv_budget_is_derived_when_nobody_says(
    changes: dict[str, int], expected_tokens: int, reason: str
) -> None:
    summary_ = summary(kv_bytes_per_token=3)

    assert kv_budget_bytes(model(**changes), summary_) == 3 * expected_tokens, reason


def test_a_registered_kv_budget_is_taken_as_it_is() -> None:
    registered = model(kv_cache_bytes=7)

    assert kv_budget_bytes(registered, summary()) == 7
    assert full_bytes(registered, summary()) == 510 + 7


@pytest.mark.parametrize(
    ("kind", "measured", "expected"),
    [
        pytest.param("cuda", None, PRIORS[EngineKind.STAGE].worker_bytes, id="a prior at first"),
        pytest.param("cuda", 2**30, 2**30, id="then what was measured"),
        pytest.param("cuda", 0, LEAST_WORKER_BYTES, id="never less than a context and some room"),
        pytest.param("cpu", 2**30, 0, id="a CPU has room of its own"),
    ],
)
def test_what_a_worker_takes_beside_its_plan(
    kind: str, measured: int | None, expected: int
) -> None:
    assert worker_bytes(kind, measured) == expected
