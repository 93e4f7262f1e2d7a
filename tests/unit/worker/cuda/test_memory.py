from libs.common.engines import PRIORS, WORKING_BYTES
from libs.common.states import EngineKind
from services.worker.runtime.cuda.memory import torch_share

GIB = 2**30
WORKER_BYTES = PRIORS[EngineKind.STAGE].worker_bytes


def test_torch_gets_what_the_plan_has_beside_the_slab_and_room_to_work() -> None:
    share = torch_share(20 * GIB + WORKER_BYTES, slab_bytes=14 * GIB, total_bytes=80 * GIB)
    assert share * 80 * GIB == 6 * GIB + WORKING_BYTES


def test_where_torch_copies_the_weights_they_are_its_own() -> None:
    share = torch_share(20 * GIB + WORKER_BYTES, slab_bytes=0, total_bytes=80 * GIB)
    assert share * 80 * GIB == 20 * GIB + WORKING_BYTES


def test_no_share_is_more_than_the_device() -> None:
    assert torch_share(81 * GIB, slab_bytes=0, total_bytes=80 * GIB) == 1.0
