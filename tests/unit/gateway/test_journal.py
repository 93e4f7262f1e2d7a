"""Rows are written in batches, keep while Postgres is away, and age meanwhile."""

import pytest

from libs.common.errors import DatabaseUnavailable, RowsRefused
from libs.common.testing.bus import FakeClock
from services.gateway import journal as module
from services.gateway.journal import Journal
from services.gateway.store.requests import BegunRow, EndedRow
from tests.unit.gateway.stores import FakeWriter


class Told:
    def __init__(self) -> None:
        self.ids: list[str] = []

    async def append_ids(self, request_ids: tuple[str, ...]) -> None:
        self.ids += request_ids


def begun(request_id: str) -> BegunRow:
    return BegunRow(
        id=request_id, tenant="t", model_id="m", gateway_id="g", api_key_id="k", attempt=1,
        endpoint_id="ep", num_prompt_tokens=3, max_tokens=5, arrived_age_s=1.0,
        assigned_age_s=None, remaining_s=10.0,
    )  # fmt: skip


def ended(request_id: str) -> EndedRow:
    return EndedRow(
        **vars(begun(request_id)), num_generated_tokens=2, first_token_age_s=0.5, ended_age_s=0.0,
        outcome="stop", error=None, is_slo_met=True,
    )  # fmt: skip


async def test_an_end_replaces_a_beginning_that_was_not_written_yet() -> None:
    writer, told = FakeWriter(), Told()
    journal = Journal(writer, FakeClock(), told.append_ids)
    journal.note(begun("req-1"))
    journal.note(begun("req-2"))
    journal.note(ended("req-1"))

    await journal.flush()

    assert [row.id for row in writer.begun] == ["req-2"]
    assert [row.id for row in writer.ended] == ["req-1"]
    assert journal.num_kept == 0
    assert told.ids == ["req-1"]


async def test_an_end_is_told_once_it_is_written() -> None:
    writer, told = FakeWriter(is_down=True), Told()
    journal = Journal(writer, FakeClock(), told.append_ids)
    journal.note(ended("req-1"))
    with pytest.raises(DatabaseUnavailable):
        await journal.flush()
    assert told.ids == []

    writer.is_down = False
    await journal.flush()

    assert told.ids == ["req-1"]


async def test_what_could_not_be_written_stays_and_grows_older() -> None:
    writer, clock = FakeWriter(is_down=True), FakeClock()
    journal = Journal(writer, clock, Told().append_ids)
    journal.note(ended("req-1"))
    with pytest.raises(DatabaseUnavailable):
        await journal.flush()
    assert journal.num_kept == 1

    clock.advance(7)
    writer.is_down = False
    await journal.flush()

    row = writer.ended[0]
    assert (row.arrived_age_s, row.first_token_age_s, row.ended_age_s) == (8.0, 7.5, 7.0)
    assert row.assigned_age_s is None
    assert row.remaining_s == 3.0


async def test_a_batch_is_bounded() -> None:
    batches: list[int] = []

    class Counting(FakeWriter):
        async def write(self, begun: tuple[BegunRow, ...], ended: tuple[EndedRow, ...]) -> None:
            batches.append(len(begun) + len(ended))

    journal = Journal(Counting(), FakeClock(), Told().append_ids)
    for number in range(1200):
        journal.note(ended(f"req-{number}"))

    await journal.flush()

    assert batches == [500, 500, 200]


async def test_the_oldest_are_lost_and_counted_when_it_is_away_too_long() -> None:
    journal = Journal(FakeWriter(), FakeClock(), Told().append_ids)
    for number in range(module.MAX_KEPT + 3):
        journal.note(ended(f"req-{number}"))

    assert journal.num_kept == module.MAX_KEPT
    assert journal.num_lost == 3


async def test_a_row_that_is_refused_is_lost_alone_with_the_cause(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer, told = FakeWriter(refused=frozenset({"req-3", "req-71"})), Told()
    journal = Journal(writer, FakeClock(), told.append_ids)
    for number in range(100):
        journal.note(ended(f"req-{number}"))

    await journal.flush()

    written = {row.id for row in writer.ended}
    assert written == {f"req-{number}" for number in range(100)} - writer.refused
    assert sorted(told.ids) == sorted(written)
    assert (journal.num_kept, journal.num_lost) == (0, 2)
    assert "the row of request req-71 is lost: a value out of range" in caplog.text
    assert writer.num_writes < 50, "halves, not one by one"


async def test_the_end_that_comes_while_its_beginning_is_refused_is_written() -> None:
    class Ending(FakeWriter):
        async def write(self, begun: tuple[BegunRow, ...], ended_: tuple[EndedRow, ...]) -> None:
            if begun:
                journal.note(ended("req-1"))
                raise RowsRefused("a value out of range")
            await super().write(begun, ended_)

    writer = Ending()
    journal = Journal(writer, FakeClock(), Told().append_ids)
    journal.note(begun("req-1"))

    await journal.flush()

    assert [row.id for row in writer.ended] == ["req-1"]
    assert (journal.num_kept, journal.num_lost) == (0, 0)
