from itertools import islice

from benchmarks.controlplane.catalogue import UNITS_PER_MODEL, unit_digests
from libs.common.weights.unitwriter import file_size_bytes
from tests.unit.benchmarks.hollow.worlds import initial_units, units_of


def test_a_node_starts_with_the_units_of_whole_models() -> None:
    units = initial_units(3, 7)

    assert set(units) == {*unit_digests(3), *unit_digests(7)}
    assert units.num_units == 2 * UNITS_PER_MODEL
    assert all(digest in units for digest in unit_digests(7))
    assert unit_digests(4)[0] not in units and "ab" * 32 not in units
    assert units.used_bytes == 2 * sum(file_size_bytes(unit) for unit in units_of(3))


def test_what_has_left_is_not_there_and_takes_no_room() -> None:
    units, (gone, *others) = initial_units(3), units_of(3)
    before_bytes = units.used_bytes

    units.take(gone.digest, file_size_bytes(gone))

    assert gone.digest not in units
    assert list(units) == [unit.digest for unit in others]
    assert units.num_units == UNITS_PER_MODEL - 1
    assert units.used_bytes == before_bytes - file_size_bytes(gone)


def test_each_is_offered_once_for_eviction_with_the_room_that_it_takes() -> None:
    units, expected = initial_units(3), units_of(3)

    first = list(islice(units.in_order_of_eviction(), 2))
    rest = list(units.in_order_of_eviction())

    assert [(u.digest, u.file_bytes) for u in (*first, *rest)] == [
        (unit.digest, file_size_bytes(unit)) for unit in expected
    ]
