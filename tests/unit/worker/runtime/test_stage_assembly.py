"""What a worker does beside its engine."""

import pytest
import torch

from services.worker.engine.model.place import Place
from services.worker.engine.model.weights import UnitKey
from services.worker.runtime.stage_assembly import warm_up_if_possible
from tests.unit.worker.engine.tiny import SHAPES, Tiny


class NoKernels:
    def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
        """Everything is there."""

    def tensor(self, unit: UnitKey, name: str) -> torch.Tensor:
        raise RuntimeError("CUDA error: no kernel image is available")


def test_a_warm_up_that_fails_ends_no_start_and_is_told(
    tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    tiny = Tiny(SHAPES[0], tmp_path_factory.mktemp("tiny"))
    whole = Place.whole(tiny.config.num_layers)

    cache = tiny.cache(tiny.config.num_layers)
    warm_up_if_possible(tiny.config, NoKernels(), tiny.engine_options(), whole, cache)

    assert "no kernel image" in caplog.text and "first tokens will take longer" in caplog.text
