"""Which keys and values are asked for, and when a sequence has all of them."""

import pytest

from libs.common.sampling import SamplingParameters
from services.worker.engine.consolidation.kv_copy import MAX_EXPORT_TOKENS, KvCopy
from services.worker.engine.execution.microbatch import KvExport
from services.worker.engine.scheduling.regions import Region
from services.worker.engine.scheduling.sequence import Sequence
from services.worker.engine_port import Request

OTHERS = frozenset({2, 3, 4})


def running(num_launched: int, start: int = 100, arrival: int = 0) -> Sequence:
    """Of a long prompt, so much of which has been launched."""
    request = Request(f"r{arrival}", 1, tuple(range(4096)), SamplingParameters(8, seed=0))
    sequence = Sequence(request, 4104, arrival)
    sequence.region = Region(start, 4104)
    sequence.num_launched = sequence.num_computed = num_launched
    return sequence


def copy_of(window_tokens: int = 1000) -> KvCopy:
    return KvCopy(OTHERS, window_tokens)


def test_what_was_launched_is_asked_for_once() -> None:
    copy, sequence = copy_of(), running(50)

    assert copy.exports([sequence]) == [KvExport(0, 100, 0, 50)]
    assert copy.exports([sequence]) == []
    sequence.num_launched = 57
    assert copy.exports([sequence]) == [KvExport(1, 100, 50, 7)]


def test_a_few_tokens_wait_for_more_unless_they_are_the_last() -> None:
    copy, sequence = copy_of(), running(3)

    assert copy.exports([sequence]) == []
    assert copy.exports([sequence], are_last=True) == [KvExport(0, 100, 0, 3)]


def test_no_more_than_the_window_is_under_way() -> None:
    copy, first, second = copy_of(60), running(50), running(40, 5000, 1)

    asked = copy.exports([first, second])

    assert [export.length for export in asked] == [50, 10]
    assert copy.exports([first, second]) == []
    for stage in (range(2, 4), range(4, 5)):
        copy.take(0, stage)
    assert [export.length for export in copy.exports([first, second])] == [30]


def test_the_last_ones_are_beyond_the_window() -> None:
    copy, sequence = copy_of(60), running(2000)

    lengths = [export.length for export in copy.exports([sequence], are_last=True)]

    assert sum(lengths) == 2000 and max(lengths) == MAX_EXPORT_TOKENS


def test_tokens_are_here_once_all_layers_of_them_are() -> None:
    copy, sequence = copy_of(), running(50)
    copy.exports([sequence])

    assert copy.take(0, range(2, 4)) == 100
    assert copy.num_tokens_left([sequence]) == 50
    assert copy.take(0, range(4, 5)) == 100
    assert copy.num_tokens_left([sequence]) == 0


def test_a_block_goes_where_its_sequence_has_moved_to() -> None:
    copy, sequence = copy_of(), running(50)
    copy.exports([sequence])
    sequence.region = Region(700, 4104)

    assert copy.take(0, range(2, 5)) == 700


def test_of_a_sequence_that_gave_its_region_up_nothing_is_here() -> None:
    copy, sequence = copy_of(), running(50)
    copy.exports([sequence])
    copy.take(0, range(2, 4))
    sequence.restart()
    sequence.region, sequence.num_launched = Region(300, 4104), 20

    assert copy.num_tokens_left([sequence]) == 20
    assert copy.take(0, range(4, 5)) is None
    assert copy.exports([sequence]) == [KvExport(1, 300, 0, 20)]
    assert copy.take(1, range(2, 5)) == 300
    assert copy.num_tokens_left([sequence]) == 0


def test_what_comes_of_a_sequence_that_has_ended_is_dropped_and_leaves_room() -> None:
    copy, ended, other = copy_of(60), running(50), running(60, 5000, 1)
    copy.exports([ended])
    ended.region = None

    assert [export.length for export in copy.exports([other])] == [60]
    assert copy.take(0, range(2, 5)) is None


def test_after_a_lost_block_all_that_is_not_here_is_asked_again() -> None:
    copy, sequence = copy_of(), running(50)
    copy.exports([sequence])
    copy.take(0, range(2, 5))
    sequence.num_launched = 90
    copy.exports([sequence])
    sequence.num_launched = 100
    copy.exports([sequence])

    copy.lose(1)

    assert copy.take(2, range(2, 5)) is None
    assert copy.exports([sequence]) == [KvExport(3, 100, 50, 50)]
    copy.take(3, range(2, 5))
    assert copy.num_tokens_left([sequence]) == 0


def test_a_loss_of_what_nobody_needs_changes_nothing() -> None:
    copy, sequence = copy_of(), running(50)
    copy.exports([sequence])
    copy.take(0, range(2, 5))

    copy.lose(0)

    assert copy.num_tokens_left([sequence]) == 0 and copy.exports([sequence]) == []


@pytest.mark.parametrize(
    ("export_id", "layers"),
    [
        (1, range(2, 3)),  # never asked for
        (-1, range(2, 3)),
        (0, range(1, 3)),  # a layer of the entry's own
        (0, range(4, 6)),  # one that the model has not
        (0, range(2, 3)),  # it has come already
    ],
)
def test_what_was_not_asked_for_is_refused(export_id: int, layers: range) -> None:
    copy, sequence = copy_of(), running(50)
    copy.exports([sequence])
    copy.take(0, range(2, 3))

    with pytest.raises(ValueError, match="asked for"):
        copy.take(export_id, layers)
