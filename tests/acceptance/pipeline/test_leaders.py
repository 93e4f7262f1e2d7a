"""The leader dies, or freezes, at each state of a four-stage cold start; the standby goes on."""

import asyncio
import signal
import time
from collections.abc import Callable

import pytest

from deploy.local.stack import LocalStack
from tests.acceptance.pipeline.driving.disturbed_streams import NUM_STAGES, Models
from tests.acceptance.pipeline.driving.record import StageRow
from tests.support.figures import Figure
from tests.support.reference import Bound
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("agents_are_known"),
]

TAKEOVER_S = 5.0  # the promise, which the long run holds it to
REFERENCES = 60  # on top of it where other tests and other people's work want the same cores
NUM_TOKENS = 100
# A submission that a dying leader takes with it is repeated after seconds; meanwhile the endpoint
# must not end as idle, which would be a lawful second start.
KEEP_ALIVE_S = 60
_NUM_OPEN = "SELECT count(*) FROM requests WHERE model_id = :model_id AND state <> 'ENDED'"
_NUM_STARTS = "SELECT count(*) FROM cold_starts WHERE model_id = :model_id"
_SERVING = "SELECT count(*) FROM endpoints WHERE model_id = :model_id AND state = 'PIPELINED'"
_WORKERS = """
SELECT string_agg(w.id, ' ') FROM workers w JOIN endpoints e ON e.id = w.endpoint_id
WHERE e.model_id = :model_id
"""

# How far the stages must be; the leader dies as soon as they are.
STATES: dict[str, Callable[[list[StageRow]], bool]] = {
    "planned": lambda stages: len(stages) == NUM_STAGES,
    "launched": lambda stages: any(stage.pid for stage in stages),
    "registered": lambda stages: any(stage.is_registered for stage in stages),
    "all registered": lambda stages: all(s.is_registered for s in stages) and bool(stages),
    "linked": lambda stages: any(stage.is_linked for stage in stages),
    "one ready": lambda stages: any(stage.is_ready for stage in stages),
}
SAMPLE = ("planned", "linked")


@pytest.mark.parametrize(
    ("state", "references"),
    [
        *((state, REFERENCES) for state in SAMPLE),
        *(
            pytest.param(state, 0, marks=pytest.mark.long)
            for state in ("accepted", *STATES, "serving")
        ),
    ],
)
async def test_the_leader_killed_in_a_cold_start_is_replaced_in_time_and_nothing_starts_twice(
    models: Models, wide_stack: LocalStack, state: str, references: int, figure: Figure
) -> None:
    model, record = await models.fresh(keep_alive_s=KEEP_ALIVE_S), models.record
    bound = Bound(TAKEOVER_S, references)
    stream = model.stream("go", NUM_TOKENS)

    async def is_reached() -> object:
        if state in STATES:
            return STATES[state](await model.stages())
        return await record.value(_NUM_OPEN if state == "accepted" else _SERVING, model_id=model.id)

    await stream.until(is_reached, state)
    leader = await record.value("SELECT scheduler_id FROM leadership")
    epoch = await record.value("SELECT epoch FROM leadership")
    wide_stack.kill(str(leader))
    killed_s = time.monotonic()

    async def is_taken_over() -> bool:
        return await record.value("SELECT epoch FROM leadership") != epoch

    await eventually(is_taken_over, timeout_s=30, what="the next leader")
    takeover_s = time.monotonic() - killed_s
    figure(f"takeover after {takeover_s:.2f} s")
    await stream.is_exact()

    bound.check(takeover_s, "the takeover")
    assert await record.value(_NUM_STARTS, model_id=model.id) == 1
    workers = str(await record.value(_WORKERS, model_id=model.id)).split()
    assert sorted(launched(wide_stack, set(workers))) == sorted(workers)
    await wide_stack.wait_ready(str(leader))
    await model.gone()


@pytest.mark.parametrize(
    "state", ["linked", pytest.param("planned", marks=pytest.mark.long)], ids=str
)
async def test_a_frozen_leader_is_deposed_and_does_no_harm_when_it_goes_on(
    models: Models, wide_stack: LocalStack, state: str
) -> None:
    model, record = await models.fresh(keep_alive_s=KEEP_ALIVE_S), models.record
    stream = model.stream("go", NUM_TOKENS)

    async def is_reached() -> bool:
        return STATES[state](await model.stages())

    await stream.until(is_reached, state)
    frozen = str(await record.value("SELECT scheduler_id FROM leadership"))
    wide_stack.kill(frozen, signal.SIGSTOP)
    try:

        async def is_deposed() -> bool:
            return await record.value("SELECT scheduler_id FROM leadership") != frozen

        await eventually(is_deposed, timeout_s=30, what="the next leader")
        await asyncio.wait_for(asyncio.shield(stream.task), 60)
    finally:
        wide_stack.kill(frozen, signal.SIGCONT)

    epoch = await record.value("SELECT epoch FROM leadership")
    await stream.is_exact()
    await wide_stack.wait_ready(frozen)
    assert await record.value("SELECT epoch FROM leadership") == epoch
    assert await record.value(_NUM_STARTS, model_id=model.id) == 1
    await model.gone()


def launched(stack: LocalStack, workers: set[str]) -> list[str]:
    """Which of these workers had a process started, as often as that was, by the agents' logs."""
    logs = (stack.options.state.log(n).read_text() for n in stack.processes if "agent" in n)
    lines = (line for log in logs for line in log.splitlines() if "launched as process" in line)
    return [worker for line in lines for worker in workers if worker in line]
