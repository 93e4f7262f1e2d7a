"""Which engine a worker process builds."""

from dataclasses import replace
from typing import cast

import pytest

from libs.common.states import EngineKind
from services.worker.errors import WorkerError
from services.worker.runtime.assembly import build_loop
from services.worker.runtime.channel import Channel
from services.worker.runtime.start_steps import StartSteps
from services.worker.runtime.unit_mapper import UnitMapper
from services.worker.runtime.worker_parts import WorkerParts
from tests.unit.worker.test_frames import START


def test_an_engine_that_this_build_lacks_ends_the_start_by_its_name() -> None:
    parts = WorkerParts(
        start=replace(START, engine=EngineKind.VLLM),
        channel=cast(Channel, None),
        steps=StartSteps(lambda step: None),
        mapper=cast(UnitMapper, None),
        loading=None,
        neighbours=None,
    )

    with pytest.raises(WorkerError, match="no vLLM engine"):
        build_loop(parts)
