"""A set's digest follows what comes and goes, and says nothing about the order."""

import random

from blake3 import blake3

from libs.common.weights.unit_set_digest import UnitSetDigest, bucket_of


def unit(number: int) -> str:
    return blake3(str(number).encode()).hexdigest()


def test_the_order_in_which_units_came_does_not_show() -> None:
    units = [unit(i) for i in range(100)]
    shuffled = random.Random(1).sample(units, len(units))

    assert UnitSetDigest.of(units) == UnitSetDigest.of(shuffled)


def test_after_any_changes_it_is_that_of_the_set_as_it_is() -> None:
    rng, held, digest = random.Random(2), set[str](), UnitSetDigest()
    for _ in range(500):
        changed = unit(rng.randrange(60))
        if changed in held:
            held.remove(changed)
            digest = digest.changed(removed=[changed])
        else:
            held.add(changed)
            digest = digest.changed(added=[changed])

        assert digest == UnitSetDigest.of(held)


def test_sets_that_differ_in_one_unit_or_by_exchange_have_other_digests() -> None:
    units = [unit(i) for i in range(50)]
    digests = {str(UnitSetDigest.of(units[:i] + units[i + 1 :])) for i in range(50)}
    neighbours = [f"{number:064x}" for number in range(4)]  # 0 + 3 = 1 + 2

    assert len(digests) == 50
    assert UnitSetDigest.of(neighbours[::3]) != UnitSetDigest.of(neighbours[1:3])


def test_it_is_the_same_in_messages_and_in_rows() -> None:
    digest = UnitSetDigest.of([unit(1), unit(2)])

    assert UnitSetDigest.from_bytes(digest.to_bytes()) == digest
    assert str(digest) == digest.to_bytes().hex() and len(str(digest)) == 32
    assert UnitSetDigest.from_bytes(bytes(16)) == UnitSetDigest()


def test_parts_make_up_the_whole() -> None:
    units = [unit(i) for i in range(9)]
    parts = [UnitSetDigest.of(units[:4]), UnitSetDigest.of(units[4:])]

    assert parts[0].plus(parts[1]) == UnitSetDigest.of(units)
    assert UnitSetDigest.of(units).minus(parts[1]) == parts[0]


def test_a_units_bucket_is_its_first_byte() -> None:
    assert bucket_of("00" + "f" * 62) == 0
    assert bucket_of("ff" + "0" * 62) == 255
