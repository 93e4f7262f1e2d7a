"""Tables answer as plain dictionaries would, and an update touches only what it changes."""

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from services.scheduler.policy import decisions as d
from services.scheduler.policy.decision_builder import DecisionBuilder
from services.scheduler.policy.snapshot import Snapshot
from services.scheduler.policy.tables.table import Schema, Table
from tests.unit.scheduler.values import endpoint, model, open_request, snapshot, worker

KEYS = ("red", "green", "blue")


@dataclass(frozen=True)
class Item:
    id: str
    colours: tuple[str, ...]
    rank: int


SCHEMA = Schema[Item](
    {"colour": lambda item: item.colours, "ranked": lambda item: item.colours},
    {"ranked": lambda item: item.rank},
)


@dataclass
class PlainTable:
    """The reference: dictionaries, changed in place."""

    rows: dict[str, Item] = field(default_factory=dict)
    by: dict[str, dict[str, Item]] = field(default_factory=lambda: {key: {} for key in KEYS})

    def update(self, changes: dict[str, Item | None]) -> None:
        for id_, new in changes.items():
            for key, place in self.by.items():
                if new is not None and key in new.colours:
                    place[id_] = new
                else:
                    place.pop(id_, None)
            if new is None:
                self.rows.pop(id_, None)
            else:
                self.rows[id_] = new

    def ranked(self, key: str) -> list[Item]:
        return sorted(self.by[key].values(), key=lambda item: (item.rank, item.id))


def _changes(rng: random.Random) -> dict[str, Item | None]:
    changes: dict[str, Item | None] = {}
    for _ in range(rng.randint(1, 5)):
        id_ = f"item-{rng.randint(0, 20)}"
        item = Item(id_, tuple(rng.choices(KEYS, k=rng.randint(0, 3))), rng.randint(0, 4))
        changes[id_] = item if rng.random() < 0.7 else None
    return changes


@pytest.mark.parametrize("seed", range(20))
def test_a_table_answers_as_plain_dictionaries_do(seed: int) -> None:
    rng, plain, table = random.Random(seed), PlainTable(), Table(SCHEMA)
    for _ in range(100):
        changes = _changes(rng)
        before, rows_before = table, dict(table.rows)
        plain.update(changes)
        table = table.updated(changes)

        assert list(table) == list(plain.rows.values()), "in the order in which they came"
        assert dict(table.rows) == plain.rows and len(table) == len(plain.rows)
        assert set(table.keys_of("colour")) == {key for key in KEYS if plain.by[key]}
        for key in KEYS:
            assert list(table.by("colour", key)) == list(plain.by[key].values())
            assert list(table.by("ranked", key)) == plain.ranked(key)
            assert set(table.ids("colour", key)) == set(table.ids("ranked", key))
            assert table.count("colour", key) == len(plain.by[key])
        assert dict(before.rows) == rows_before, "the table before is as it was"


def test_a_version_is_the_same_object_until_something_under_the_key_changes() -> None:
    item = Item("a", ("red",), 0)
    table = Table(SCHEMA).updated({"a": item, "b": Item("b", ("blue",), 0)})
    red, blue = table.versions("colour")["red"], table.versions("colour")["blue"]

    after = table.updated({"a": Item("a", ("red",), 1)})

    assert after.versions("colour")["red"] is not red
    assert after.versions("colour")["blue"] is blue
    assert table.updated({"a": item}) is table


def _num_calls(work: Callable[[], object]) -> int:
    """Python and C functions called: what is done, whatever the machine."""
    num = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal num
        num += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return num


def _fleet(num_endpoints: int) -> Snapshot:
    ids = range(num_endpoints)
    return snapshot(
        models=[model(id=f"model-{i}") for i in ids],
        endpoints=[
            endpoint(
                id=f"endpoint-{i}",
                model_id=f"model-{i}",
                idle_since_s=1.0,
                workers=(worker(id=f"worker-{i}", node_id=f"node-{i % 1000}"),),
            )
            for i in ids
        ],
        requests=[open_request(id=f"request-{i}", model_id=f"model-{i}") for i in ids],
    )


def _decide_about_hundred(before: Snapshot) -> None:
    builder = DecisionBuilder(before)
    for i in range(100):
        name, endpoint_id = f"model-{i}", f"endpoint-{i}"
        builder.add([d.AssignRequest(name, f"request-{i}", 1, endpoint_id)])
        builder.add([d.MarkBusy(name, endpoint_id), d.ServeEndpoint(name, endpoint_id, 0, True)])


def _num_copied(before: Snapshot) -> int:
    """Values that the decisions' tables and mappings do not share with those before."""
    builder = DecisionBuilder(before)
    builder.add([d.ServeEndpoint("model-1", "endpoint-1", 0, True)])
    after = builder.snapshot
    return sum(
        version is not before.endpoints.versions("model")[model_id]
        for model_id, version in after.endpoints.versions("model").items()
    )


def test_a_decision_costs_the_same_in_a_large_fleet() -> None:
    small, large = _fleet(200), _fleet(4000)
    _decide_about_hundred(small)  # the first ones make persistent what a test gave as it was
    _decide_about_hundred(large)

    calls = [_num_calls(partial(_decide_about_hundred, of)) for of in (small, large)]

    assert calls[1] < 1.2 * calls[0]
    assert _num_copied(large) == 1


def test_the_keys_that_changed_since_any_earlier_table_are_known() -> None:
    """Also since one that is too old, and since one of another line."""
    rng = random.Random(5)
    schema = Schema[Item](SCHEMA.keys, SCHEMA.ranks, watched=("colour",))
    tables = [Table(schema)]
    other = Table(schema).updated({"item-1": Item("item-1", ("red",), 1)})
    for _ in range(150):
        tables.append(tables[-1].updated(_changes(rng)))
    now = tables[-1]

    for before in (*tables, other):
        old, new = before.versions("colour"), now.versions("colour")
        differing = {key for key in KEYS if old.get(key) is not new.get(key)}
        assert now.keys_changed_since(before, "colour") >= differing
    assert now.keys_changed_since(now, "colour") == set()
    painted = now.updated({"item-new": Item("item-new", ("green",), 1)})
    assert painted.keys_changed_since(now, "colour") == {"green"}
    plain = Table(SCHEMA).updated({"item-1": Item("item-1", ("blue",), 1)})
    assert plain.keys_changed_since(Table(SCHEMA), "colour") == {"blue"}
