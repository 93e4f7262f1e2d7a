from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch

from tests.unit.worker.engine.tiny import SHAPES, Shape, Tiny


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tiny tensors gain nothing from more, and the machine is shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def make_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Shape], Tiny]:
    """Each shape is built once."""

    @cache
    def build(shape_name: str) -> Tiny:
        folder: Path = tmp_path_factory.mktemp(shape_name)
        return Tiny(next(shape for shape in SHAPES if shape.name == shape_name), folder)

    return lambda shape: build(shape.name)


@pytest.fixture
def tiny(make_tiny: Callable[[Shape], Tiny]) -> Tiny:
    """The first shape, where the shape does not matter."""
    return make_tiny(SHAPES[0])
