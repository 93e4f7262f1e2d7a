"""Random processes are killed or frozen at random moments of random cold starts.

Every accepted request ends, with exactly the undisturbed text or a documented error that what was
done can have caused; nothing is answered twice; and nothing is left.
"""

import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.pipeline.driving.chaos_rounds import ChaosRounds
from tests.acceptance.pipeline.driving.fault_injector import SERVICES, Victim
from tests.acceptance.pipeline.driving.leftovers import nothing_left
from tests.acceptance.pipeline.driving.record import Record
from tests.support.figures import Figure

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(3600),
    pytest.mark.usefixtures("agents_are_known"),
]

LONG_FREEZE_S = 14.0  # longer than a node may be silent
GATEWAYS_TOO = (*SERVICES, Victim.GATEWAY, Victim.GATEWAY, Victim.GATEWAY)
SEED_VARIABLE = "HYDRASERVE_TEST_SEED"  # another series of rounds than the usual one


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def gateways(wide_stack: LocalStack) -> AsyncIterator[list[Client]]:
    """A client of each."""
    clients = [Client(url, wide_stack.api_key) for url in wide_stack.gateway_urls]
    yield clients
    for client in clients:
        await client.close()


@pytest.mark.parametrize(
    ("num_rounds", "victims", "longest_freeze_s", "seed"),
    [
        (5, SERVICES, 2.0, 764),  # which strikes all but a standby, most while four stages start
        pytest.param(70, SERVICES, LONG_FREEZE_S, 1, marks=pytest.mark.long),
        pytest.param(30, GATEWAYS_TOO, LONG_FREEZE_S, 2, marks=pytest.mark.long),
    ],
    ids=["a sample", "services", "gateways too"],
)
async def test_random_cold_starts_under_random_kills_end_right_and_leave_nothing(
    wide_stack: LocalStack,
    gateways: list[Client],
    record: Record,
    sources: Path,
    num_rounds: int,
    victims: Sequence[Victim],
    longest_freeze_s: float,
    seed: int,
    figure: Figure,
) -> None:
    seed = int(os.environ.get(SEED_VARIABLE, seed))
    folder = sources / f"random-{num_rounds}"
    rounds = ChaosRounds(
        wide_stack, gateways, record, folder, Random(seed), victims, longest_freeze_s, figure
    )
    for number in range(num_rounds):
        await rounds.play(number)
    figure(f"seed {seed}, {num_rounds} rounds: {dict(rounds.ends)}")

    assert rounds.ends["right"] >= sum(rounds.ends.values()) // 2
    await rounds.close()
    await nothing_left(wide_stack, gateways[0])
