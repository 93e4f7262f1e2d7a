"""A model of each family, and what it says undisturbed."""

from functools import cache

import pytest

from tests.unit.worker.engine.consolidation.consolidating import Results, run_all
from tests.unit.worker.engine.consolidation.exactness import (
    KV_TOKENS,
    Expected,
    Make,
    requests_of,
)
from tests.unit.worker.engine.families import Family
from tests.unit.worker.engine.imported import Imported


@pytest.fixture(scope="package")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    @cache
    def build(family: Family) -> Imported:
        shape = next(iter(family.shapes))
        return Imported(family.build(shape), tmp_path_factory.mktemp(family.name))

    return build


@pytest.fixture(scope="package")
def expected(make: Make) -> Expected:
    """Of each request alone on the whole model."""

    @cache
    def results(family: Family) -> Results:
        model = make(family)
        alone: Results = {}
        for request in requests_of(model):
            alone |= run_all(model.engine(kv_tokens=KV_TOKENS), [request])
        return alone

    return results
