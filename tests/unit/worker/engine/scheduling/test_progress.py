"""A step that takes long is seen to move."""

import pytest

from libs.common.sampling import SamplingParameters
from services.worker.engine_port import Request
from services.worker.runtime.progress import Progress
from tests.unit.worker.engine.tiny import Tiny


@pytest.mark.parametrize("num_prompt_tokens", [1, 40])
def test_a_step_notes_progress_after_each_layer(tiny: Tiny, num_prompt_tokens: int) -> None:
    progress = Progress()
    engine = tiny.engine(layer_done=progress.note)
    sampling = SamplingParameters(max_tokens=2, seed=1, temperature=0.0, ignore_eos=True)
    engine.add_request(Request("request-a", 1, tiny.prompt(num_prompt_tokens, 3), sampling))

    engine.step()

    assert progress.count == tiny.config.num_layers
