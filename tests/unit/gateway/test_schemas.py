"""Bodies of the project's own API: names and changes of models."""

import pytest

from libs.common.states import EngineChoice
from services.gateway.api.schemas import ModelChange, NewModel
from services.gateway.errors import InvalidRequest
from services.gateway.feasibility import check_engine, check_full_workers


def test_a_change_holds_only_what_was_given_and_null_only_where_it_means_something() -> None:
    change = ModelChange.model_validate(
        {"keep_alive_s": 5.0, "max_queue": None, "kv_cache_bytes": None, "slo": {"ttft_ms": 9}}
    )

    kept = {"keep_alive_s": 5.0, "is_keep_alive_auto": False}
    assert change.columns() == kept | {"kv_cache_bytes": None, "slo_ttft_ms": 9}


def test_keep_alive_is_a_figure_or_auto_which_leaves_the_figure_as_it_is() -> None:
    auto = {"name": "a", "source": "/m", "keep_alive_s": "auto"}

    columns = NewModel.model_validate(auto).columns()
    assert (columns["keep_alive_s"], columns["is_keep_alive_auto"]) == (300.0, True)
    assert NewModel(name="a", source="/m").columns()["is_keep_alive_auto"] is False
    change = ModelChange.model_validate({"keep_alive_s": "auto"})
    assert change.columns() == {"is_keep_alive_auto": True}
    with pytest.raises(ValueError, match="keep_alive_s"):
        ModelChange.model_validate({"keep_alive_s": "later"})


@pytest.mark.parametrize("name", ["a", "org/model-1.0_x", "A" * 128])
def test_good_names_are_taken(name: str) -> None:
    assert NewModel(name=name, source="/m").columns()["name"] == name


@pytest.mark.parametrize("name", ["", "/a", "a b", "a\n", "é", "A" * 129, "..", "-a"])
def test_bad_names_are_not(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        NewModel(name=name, source="/m")


@pytest.mark.parametrize("engine", ["auto", "stage", "vllm"])
def test_an_engine_is_asked_for_by_its_name(engine: str) -> None:
    body = {"name": "a", "source": "/m", "engine": engine}

    assert NewModel.model_validate(body).columns()["engine"] == engine
    assert ModelChange.model_validate({"engine": engine}).columns() == {"engine": engine}


def test_nobody_has_to_name_an_engine() -> None:
    assert NewModel(name="a", source="/m").engine is EngineChoice.AUTO
    assert "engine" not in ModelChange.model_validate({"engine": None}).columns()
    with pytest.raises(ValueError, match="engine"):
        NewModel.model_validate({"name": "a", "source": "/m", "engine": "another"})


def test_an_engine_that_this_build_lacks_is_refused_by_name() -> None:
    for engine in (None, EngineChoice.AUTO, EngineChoice.STAGE):
        check_engine(engine)
    with pytest.raises(InvalidRequest, match="no vLLM engine yet") as refused:
        check_engine(EngineChoice.VLLM)
    assert refused.value.param == "engine"


def test_the_number_of_full_memory_workers_is_the_planners_unless_it_is_given() -> None:
    given = NewModel(name="a", source="/m", full_memory_workers=3)

    assert given.columns()["full_memory_workers"] == 3
    assert NewModel(name="a", source="/m").columns()["full_memory_workers"] is None
    change = ModelChange.model_validate({"full_memory_workers": None})
    assert change.columns() == {"full_memory_workers": None}
    for wrong in (0, 9, 1.5, "two"):
        with pytest.raises(ValueError, match="full_memory_workers"):
            ModelChange.model_validate({"full_memory_workers": wrong})


def test_more_full_memory_workers_than_a_pipeline_may_have_are_refused() -> None:
    for possible in (None, 1, 2):
        check_full_workers(possible, max_pipeline_size=2)
    with pytest.raises(InvalidRequest, match="is 3, more than the 'max_pipeline_size' of 2") as no:
        check_full_workers(3, max_pipeline_size=2)
    assert no.value.param == "full_memory_workers"
