"""What is unlawful for a moment is waited for; what stays so, or never may be, is broken."""

from collections.abc import Iterator
from dataclasses import replace

from deploy.local.doctor.examination import Look, examine
from deploy.local.doctor.promises import Promise
from deploy.local.doctor.values import StackState
from tests.unit.local.doctor.values import DEVICE, IN_ORDER, NODE_STATE, RECORDS

STRAY = replace(IN_ORDER, nodes=(replace(NODE_STATE, worker_pids=frozenset({11})),))
OTHER_STRAY = replace(IN_ORDER, nodes=(replace(NODE_STATE, worker_pids=frozenset({12})),))
TOO_MUCH = replace(RECORDS, devices=(replace(DEVICE, reserved_bytes=2000),))


def looks(*states: StackState) -> Look:
    """One state after the other, the last one again and again."""
    left: Iterator[StackState] = iter(states[:-1])

    async def look() -> StackState:
        return next(left, states[-1])

    return look


async def test_a_stack_in_order_is_looked_at_once() -> None:
    found = await examine(looks(IN_ORDER, STRAY), timeout_s=0)
    assert found.broken == ()


async def test_what_passes_is_lawful() -> None:
    found = await examine(looks(STRAY, STRAY, IN_ORDER))
    assert found.broken == ()


async def test_what_stays_is_broken() -> None:
    found = await examine(looks(STRAY), timeout_s=0)
    assert [broken.promise for broken in found.broken] == [Promise.ENDED_WORKER]


async def test_what_is_another_thing_in_every_look_is_lawful() -> None:
    found = await examine(looks(STRAY, OTHER_STRAY), timeout_s=0.05)
    assert found.broken == ()


async def test_what_may_never_be_is_broken_at_once() -> None:
    found = await examine(looks(replace(IN_ORDER, records=TOO_MUCH), IN_ORDER))
    assert [broken.promise for broken in found.broken] == [Promise.DEVICE_MEMORY]


async def test_a_node_of_another_machine_was_not_checked() -> None:
    found = await examine(looks(replace(IN_ORDER, nodes=())))
    assert found.broken == ()
    assert found.unchecked[0] == "node-0: none of its processes runs here"
