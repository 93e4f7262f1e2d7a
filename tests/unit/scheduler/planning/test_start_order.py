"""In which order models of several tenants get endpoints."""

from dataclasses import replace

import pytest

from services.scheduler.policy.planning.start_order import WaitingModel, start_order
from tests.unit.scheduler.planning.test_rounds_of_starts import (
    MODEL_BYTES,
    cluster_of,
    round_of,
    small,
    started,
)
from tests.unit.scheduler.values import device


def waiting(model_id: str, waited_s: float, num_live: int = 0) -> WaitingModel:
    """The tenant is the name's first letter."""
    return WaitingModel(model_id, model_id[0], num_live, arrived_at_s=-waited_s)


@pytest.mark.parametrize(
    ("models", "num_live_of", "order", "why"),
    [
        ([waiting("a1", 1), waiting("a2", 2)], {}, "a2 a1", "one tenant's in order of arrival"),
        (
            [waiting("a1", 9), waiting("a2", 8), waiting("a3", 7), waiting("b1", 1)],
            {},
            "a1 b1 a2 a3",
            "tenants take turns, though all of one came first",
        ),
        (
            [waiting("a1", 9), waiting("b1", 1)],
            {"a": 1},
            "b1 a1",
            "the next turn is that of the tenant who has less",
        ),
        (
            [waiting("a1", 9, 1), waiting("a2", 1)],
            {"a": 1},
            "a2 a1",
            "a first endpoint before another one",
        ),
        (
            [waiting("a1", 9, 1), waiting("b1", 1)],
            {"a": 1},
            "b1 a1",
            "of another tenant, too",
        ),
        ([waiting("b1", 1), waiting("a1", 1)], {}, "a1 b1", "else by id, so that it is the same"),
    ],
)
def test_tenants_take_turns(
    models: list[WaitingModel], num_live_of: dict[str, int], order: str, why: str
) -> None:
    assert start_order(models, num_live_of) == order.split(), why


def test_one_tenants_many_cold_models_do_not_keep_anothers_from_starting() -> None:
    ids = [f"many-{i}" for i in range(9)]
    single = replace(small("single")[0], tenant="tenant-2")
    waited_s = {**dict.fromkeys(ids, 60.0), "single": 1.0}
    before = cluster_of(
        [device("node-1", memory=2 * MODEL_BYTES)], [*small(*ids), single], waited_s
    )

    decided = round_of(before)

    assert started(decided.snapshot) == {ids[0], "single"}
