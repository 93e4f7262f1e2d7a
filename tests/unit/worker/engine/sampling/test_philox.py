import pytest

from services.worker.engine.sampling.philox import philox4x32, uniform

# Random123's known answers: counter, key, result.
KNOWN_ANSWERS = (
    (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    (
        (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF),
        (0xFFFFFFFF, 0xFFFFFFFF),
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_gives_the_known_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: tuple[int, int, int, int]
) -> None:
    assert philox4x32(counter, key) == words


def test_the_number_of_a_token_is_fixed_for_ever() -> None:
    """Another engine must draw the same: changing these breaks requests that move."""
    assert uniform(0, 0) == (0x6627E8D5 + 0.5) / 2**32
    assert uniform(0xBB67AE85_9E3779B9, 1) == 0.5973448833683506
    assert uniform(2**64 - 1, 10**12) == 0.0038377015152946115


def test_numbers_lie_strictly_between_zero_and_one_and_spread_evenly() -> None:
    numbers = [uniform(seed, index) for seed in range(40) for index in range(50)]

    assert 0 < min(numbers) and max(numbers) < 1
    assert len(set(numbers)) == len(numbers)
    assert abs(sum(numbers) / len(numbers) - 0.5) < 0.03
