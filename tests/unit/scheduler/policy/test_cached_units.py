"""What waiting models find in host caches is what a plain comparison of whole sets says."""

import random

from services.scheduler.policy.nodes.cached_units import (
    CachedUnits,
    UnitHolders,
    UnitsChanged,
    holders_of,
)

UNITS = [f"unit-{i}" for i in range(40)]
NODES = [f"node-{i}" for i in range(6)]


def reference(sets: dict[str, set[str]], units: frozenset[str]) -> dict[str, frozenset[str]]:
    """As plans found it out when every node's whole set was at hand."""
    held = {node_id: frozenset(own & units) for node_id, own in sets.items()}
    return {node_id: found for node_id, found in held.items() if found}


def read(sets: dict[str, set[str]], units: frozenset[str]) -> UnitHolders:
    """As rows have it."""
    rows = {unit: [node_id for node_id, own in sets.items() if unit in own] for unit in units}
    return holders_of({"m": units}, rows)["m"]


def test_whatever_changes_plans_are_told_what_whole_sets_would_tell_them() -> None:
    for seed in range(20):
        rng = random.Random(seed)
        sets = {node_id: set(rng.sample(UNITS, 10)) for node_id in NODES}
        manifests = {f"m-{i}": frozenset(rng.sample(UNITS, 8)) for i in range(5)}
        waiting: set[str] = set()
        cached = CachedUnits()
        for _ in range(60):
            waiting = set(rng.sample(sorted(manifests), rng.randint(0, 5)))
            cached = cached.changed({id_: _change(rng, sets[id_]) for id_ in rng.sample(NODES, 2)})
            cached = cached.keep_only(waiting)
            missing = [m for m in waiting if cached.of(m) is None]
            cached = cached.including({m: read(sets, manifests[m]) for m in missing})

            for manifest, units in manifests.items():
                expected = reference(sets, units) if manifest in waiting else None
                assert cached.of(manifest) == expected
        assert CachedUnits() == cached.keep_only(())


def _change(rng: random.Random, own: set[str]) -> UnitsChanged:
    added = frozenset(rng.sample(UNITS, 4)) - own
    removed = frozenset(rng.sample(sorted(own), min(3, len(own))))
    own |= added
    own -= removed
    return UnitsChanged(added, removed)


def test_what_no_model_waits_for_is_passed_over_and_costs_no_copy() -> None:
    cached = CachedUnits().including({"m": UnitHolders(frozenset({"unit-1"}))})

    after = cached.changed({"node-1": UnitsChanged(added=frozenset({"unit-2"}))})

    assert after.of("m") == {}
    assert after.holders["m"] is cached.holders["m"]


def test_an_earlier_value_stays_as_it_was() -> None:
    before = CachedUnits().including({"m": UnitHolders(frozenset({"unit-1"}))})

    after = before.changed({"node-1": UnitsChanged(added=frozenset({"unit-1"}))})

    assert (before.of("m"), after.of("m")) == ({}, {"node-1": frozenset({"unit-1"})})
