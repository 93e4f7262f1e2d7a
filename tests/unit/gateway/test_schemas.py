"""Bodies of the project's own API: names and changes of models."""

import pytest

from services.gateway.api.schemas import ModelChange, NewModel


def test_a_change_holds_only_what_was_given_and_null_only_where_it_means_something() -> None:
    change = ModelChange.model_validate(
        {"keep_alive_s": 5.0, "max_queue": None, "kv_cache_bytes": None, "slo": {"ttft_ms": 9}}
    )

    assert change.columns() == {"keep_alive_s": 5.0, "kv_cache_bytes": None, "slo_ttft_ms": 9}


@pytest.mark.parametrize("name", ["a", "org/model-1.0_x", "A" * 128])
def test_good_names_are_taken(name: str) -> None:
    assert NewModel(name=name, source="/m").columns()["name"] == name


@pytest.mark.parametrize("name", ["", "/a", "a b", "a\n", "é", "A" * 129, "..", "-a"])
def test_bad_names_are_not(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        NewModel(name=name, source="/m")
