"""Which models a sweep may start although nobody waits for them."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler.policy.scaling.activity import ModelActivity
from services.scheduler.policy.scaling.gap_history import history_of
from services.scheduler.policy.scaling.unasked import MAX_AHEAD
from services.scheduler.simulation.catalogue import ModelCatalogue
from services.scheduler.simulation.leader import unasked_models
from services.scheduler.simulation.leader.unasked_models import UnaskedModels
from services.scheduler.simulation.scenario import scenario as scenarios
from services.scheduler.simulation.scenario.overrides import Override
from services.scheduler.simulation.workload.model_names import ModelNames
from tests.unit.scheduler.simulation.scenarios import SMALL

AUTO = Override("models.model.is_keep_alive_auto", True, is_new=True)
GAPS = history_of([240.0] * 20)  # expected from 215 s to 256 s after the last request


def activity(idle_since_s: float | None, *, was_started_ahead: bool = False) -> ModelActivity:
    return ModelActivity(
        gaps=GAPS,
        idle_since_s=idle_since_s,
        restart_s=5.0,
        late_s=0.6,
        was_started_ahead=was_started_ahead,
    )


def unasked_of(count: int, *overrides: Override) -> UnaskedModels:
    changes = [*overrides, Override.of(f"models.model.count={count}")]
    models = scenarios.parse("small", SMALL, changes).models
    return UnaskedModels(ModelCatalogue(ModelNames(models)))


def test_a_model_is_due_from_when_it_is_to_start_until_it_is_expected_no_longer() -> None:
    """The bin of 240 s has its edges at 2**7.75 = 215.3 s and 256 s; a restart takes 5 s."""
    unasked = unasked_of(2, AUTO)
    unasked.write({"model-1": activity(1_000.0)})
    assert unasked.read(1_210.0) == set()
    assert unasked.read(1_210.5) == {"model-1"}
    assert unasked.read(1_255.9) == {"model-1"}
    assert unasked.read(1_256.0) == set()


@pytest.mark.parametrize("then", [activity(None), activity(1_000.0, was_started_ahead=True)])
def test_a_model_that_was_asked_or_started_is_due_no_longer(then: ModelActivity) -> None:
    unasked = unasked_of(2, AUTO)
    unasked.write({"model-1": activity(1_000.0)})
    assert unasked.read(1_220.0) == {"model-1"}
    unasked.write({"model-1": then})
    assert unasked.read(1_221.0) == set()


def test_a_model_with_a_fixed_keep_alive_is_never_due() -> None:
    unasked = unasked_of(2)
    unasked.write({"model-1": activity(1_000.0)})
    assert unasked.read(1_220.0) == set()


def test_a_sweep_takes_so_many_and_those_that_are_expected_first() -> None:
    """All are due at 1220 s: the first since 1210.3 s, the last since 1212.3 s."""
    unasked = unasked_of(MAX_AHEAD + 1, AUTO)
    known = {f"model-{i}": activity(1_000.0 + 0.01 * i) for i in reversed(range(MAX_AHEAD + 1))}
    unasked.write(known)
    assert unasked.read(1_220.0) == known.keys() - {f"model-{MAX_AHEAD}"}


STEPS = st.lists(
    st.tuples(
        st.integers(0, 5),  # the model
        st.one_of(
            st.none(), st.integers(0, 400), st.just(230)
        ),  # since when it was idle, before now
        st.booleans(),
        st.sampled_from([0.0, 1.0, 7.0, 40.0, 300.0]),  # until the next step
    ),
    max_size=30,
)


@given(STEPS)
def test_what_is_due_is_what_a_look_at_all_rows_finds(
    steps: Sequence[tuple[int, int | None, bool, float]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unasked_models, "MAX_AHEAD", 1)
        unasked, now_s = unasked_of(6, AUTO), 1_000.0
        rows: dict[str, ModelActivity] = {}
        for model, idle_s, was_started, pause_s in steps:
            since_s = None if idle_s is None else now_s - idle_s
            told = {f"model-{model}": activity(since_s, was_started_ahead=was_started)}
            rows |= told
            unasked.write(told)
            now_s += pause_s
            assert unasked.read(now_s) == set(_due(rows, now_s)[:1])


def _due(rows: Mapping[str, ModelActivity], now_s: float) -> list[str]:
    found = [
        (known.ahead_at_s, model_id)
        for model_id, known in rows.items()
        if known.ahead_at_s is not None and known.ahead_until_s is not None
        if known.ahead_at_s <= now_s < known.ahead_until_s
    ]
    return [model_id for _, model_id in sorted(found)]
