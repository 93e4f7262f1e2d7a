from hypothesis import given
from hypothesis import strategies as st

from libs.common.bus.messages import Logprob
from services.worker.agent.requests.logprob_columns import LogprobColumns

FINITE = st.floats(allow_nan=False, allow_infinity=False)
ENTRIES = st.builds(
    Logprob,
    logprob=FINITE,
    top=st.lists(st.tuples(st.integers(0, 2**32 - 1), FINITE), max_size=4).map(tuple),
)


@given(messages=st.lists(st.lists(ENTRIES, max_size=5), max_size=4), cut=st.integers(0, 20))
def test_what_is_read_is_what_was_added(messages: list[list[Logprob]], cut: int) -> None:
    kept = LogprobColumns()
    for message in messages:
        kept.extend(LogprobColumns(message))

    everything = tuple(entry for message in messages for entry in message)
    assert len(kept) == len(everything)
    assert kept.part(0, cut) == everything[:cut]
    assert kept.part(cut, len(everything)) == everything[cut:]
