"""Parts of all models: each model is in exactly one, whatever their number."""

import pytest
from pydantic import ValidationError

from libs.common.bus.messages import RoutesPart
from libs.common.bus.route_parts import (
    ALL_MODELS,
    ModelBuckets,
    covers,
    halves,
    is_within,
    parts_of,
)

MODEL_IDS = [f"model-{number}" for number in range(5_000)]


@pytest.mark.parametrize("num_parts", [1, 2, 64, 1024, 4096])
def test_every_model_is_in_one_part_and_is_found_there(num_parts: int) -> None:
    models = ModelBuckets()
    for model_id in MODEL_IDS:
        models.add(model_id)

    found = [list(models.of(part)) for part in parts_of(ALL_MODELS, num_parts)]

    assert sorted(id_ for ids in found for id_ in ids) == sorted(MODEL_IDS)
    for part, ids in zip(parts_of(ALL_MODELS, num_parts), found, strict=True):
        assert all(covers(part, id_) for id_ in ids)


def test_halves_are_within_their_whole_and_share_its_models() -> None:
    whole = RoutesPart(part=3, num_parts=8)
    own = {id_ for id_ in MODEL_IDS if covers(whole, id_)}

    first, second = ({id_ for id_ in MODEL_IDS if covers(half, id_)} for half in halves(whole))

    assert first | second == own and not first & second
    assert all(is_within(half, whole) for half in halves(whole))
    assert not is_within(whole, halves(whole)[0])


@pytest.mark.parametrize(("part", "num_parts"), [(0, 3), (2, 2), (0, 0), (-1, 2), (0, 2**21)])
def test_a_part_that_cannot_be_is_refused(part: int, num_parts: int) -> None:
    with pytest.raises(ValidationError):
        RoutesPart(part=part, num_parts=num_parts)
