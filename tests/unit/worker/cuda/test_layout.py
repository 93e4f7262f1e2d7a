from services.worker.runtime.cuda.layout import ALIGNMENT_BYTES, plan_slab
from tests.unit.worker.cuda.arriving import unit_of


def test_units_lie_in_order_aligned_and_the_slab_ends_with_the_last() -> None:
    layout = plan_slab([unit_of(0, 1000), unit_of(1, 256), unit_of(2, 7)])
    assert layout.offsets == {"digest-0": 0, "digest-1": 1024, "digest-2": 1280}
    assert layout.size_bytes == 1287
    assert all(offset % ALIGNMENT_BYTES == 0 for offset in layout.offsets.values())


def test_a_unit_that_two_layers_share_lies_there_once() -> None:
    layout = plan_slab([unit_of(0, 512), unit_of(1, 100), unit_of(0, 512)])
    assert layout.size_bytes == 612
