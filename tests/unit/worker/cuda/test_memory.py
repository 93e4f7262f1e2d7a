import pytest

from libs.common.engines import CONTEXT_BYTES, LEAST_WORKER_BYTES, PRIORS, WORKING_BYTES
from libs.common.states import EngineKind
from services.worker.errors import ReservationTooSmall
from services.worker.runtime.cuda.memory import Reservation, torch_share

GIB = 2**30
WORKER_BYTES = PRIORS[EngineKind.STAGE].worker_bytes


def test_torch_gets_what_the_plan_has_beside_the_slab_and_room_to_work() -> None:
    reservation = Reservation(20 * GIB + WORKER_BYTES, slab_bytes=14 * GIB, kv_bytes=6 * GIB)
    assert torch_share(reservation, 80 * GIB) * 80 * GIB == 6 * GIB + WORKING_BYTES


def test_where_torch_copies_the_weights_they_are_its_own() -> None:
    reservation = Reservation(20 * GIB + WORKER_BYTES, slab_bytes=0, kv_bytes=6 * GIB)
    assert torch_share(reservation, 80 * GIB) * 80 * GIB == 20 * GIB + WORKING_BYTES


def test_no_share_is_more_than_the_device() -> None:
    assert torch_share(Reservation(81 * GIB, 0, 0), 80 * GIB) == 1.0


def test_the_least_that_is_planned_suffices() -> None:
    reservation = Reservation(14 * GIB + LEAST_WORKER_BYTES, slab_bytes=13 * GIB, kv_bytes=GIB)
    assert 0 < torch_share(reservation, 80 * GIB) < 1


@pytest.mark.parametrize(
    ("device_bytes", "kv_bytes"),
    [
        pytest.param(GIB + CONTEXT_BYTES - 1, 0, id="less than weights and context"),
        pytest.param(GIB + CONTEXT_BYTES, 0, id="nothing to compute with"),
        pytest.param(2 * GIB + CONTEXT_BYTES, GIB, id="nothing beside the cache"),
    ],
)
def test_a_share_that_would_be_nothing_or_less_is_an_error_of_the_plan(
    device_bytes: int, kv_bytes: int
) -> None:
    needed = GIB + CONTEXT_BYTES + kv_bytes
    with pytest.raises(ReservationTooSmall, match=f"{device_bytes} bytes .* take {needed}"):
        torch_share(Reservation(device_bytes, slab_bytes=GIB, kv_bytes=kv_bytes), 80 * GIB)
