"""The real process: over NATS with its own permissions, leading, standing by and ending."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from libs.common.bus.bus import NatsBus
from libs.common.bus.messages import SubmitRefused, SubmitReply, SubmitRequest
from libs.common.bus.subjects import REQUEST_SUBMIT, Service
from libs.common.errors import BusError
from libs.common.records.database import Database
from services.scheduler.bootstrap import EXIT_LEADERSHIP_LOST, EXIT_STOPPED
from tests.integration.scheduler.world import World
from tests.integration.servers import RunningNats, TestDatabase
from tests.support.figures import Figure
from tests.support.reference import Bound
from tests.support.waiting import eventually

TAKEOVER_S = 5.0  # the promise, which the long run holds it to
REFERENCES = 60  # on top of it where other tests and other people's work want the same cores
in_time = pytest.mark.parametrize(
    "references", [REFERENCES, pytest.param(0, marks=pytest.mark.long)]
)


class SchedulerProcesses:
    """Starts `python -m services.scheduler` and leaves none behind."""

    def __init__(self, nats: RunningNats, database: TestDatabase, folder: Path) -> None:
        bus = nats.settings(Service.SCHEDULER)
        (folder / "nats").write_text(bus.password)
        (folder / "postgres").write_text(database.owner.password)
        self._folder = folder
        self._env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.getcwd(),
            "HYDRA_NATS_URL": bus.url,
            "HYDRA_NATS_USER": bus.user,
            "HYDRA_NATS_PASSWORD_FILE": str(folder / "nats"),
            "HYDRA_DATABASE_URL": database.owner.url,
            "HYDRA_DATABASE_PASSWORD_FILE": str(folder / "postgres"),
        }
        self._running: list[asyncio.subprocess.Process] = []

    def health_file(self, name: str) -> Path:
        return self._folder / f"{name}.health"

    async def start(self, name: str) -> asyncio.subprocess.Process:
        env = self._env | {
            "HYDRA_SCHEDULER_ID": name,
            "HYDRA_HEALTH_FILE": str(self.health_file(name)),
        }
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.scheduler", env=env
        )
        self._running.append(process)
        return process

    async def stop_all(self) -> None:
        for process in self._running:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest_asyncio.fixture
async def processes(
    nats_server: RunningNats, database: TestDatabase, tmp_path: Path
) -> AsyncIterator[SchedulerProcesses]:
    processes = SchedulerProcesses(nats_server, database, tmp_path)
    yield processes
    await processes.stop_all()


@pytest_asyncio.fixture
async def gateway(nats_server: RunningNats) -> AsyncIterator[NatsBus]:
    bus = await NatsBus.connect(
        nats_server.settings(Service.GATEWAY), Service.GATEWAY, name="gateway-1"
    )
    yield bus
    await bus.close()


async def asked(gateway: NatsBus) -> SubmitRefused:
    """The answer of whoever leads, as soon as somebody does."""
    message = SubmitRequest(
        request_id="request-1",
        tenant="default",
        gateway_id="gateway-1",
        model_id="model-1",
        attempt=1,
        num_prompt_tokens=1,
        max_tokens=1,
        remaining_ms=1000,
    )

    async def answer() -> SubmitReply | None:
        try:
            reply = await gateway.request(REQUEST_SUBMIT, None, message, timeout_s=0.5)
        except BusError:
            return None
        assert isinstance(reply, SubmitReply)
        return reply

    reply = await eventually(answer, timeout_s=20, poll_s=0.05, what="an answer")
    assert isinstance(reply, SubmitReply) and isinstance(reply.result, SubmitRefused)
    return reply.result


@dataclass(frozen=True)
class Leader:
    scheduler_id: str
    epoch: int


async def leader_of(world: Database) -> Leader:
    from sqlalchemy import text

    async with world.transaction() as session:
        row = (await session.execute(text("SELECT scheduler_id, epoch FROM leadership"))).one()
    return Leader(row.scheduler_id, row.epoch)


@in_time
async def test_a_standby_takes_over_soon_after_the_leaders_death(
    processes: SchedulerProcesses,
    gateway: NatsBus,
    database: TestDatabase,
    references: int,
    figure: Figure,
) -> None:
    leader = await processes.start("scheduler-a")
    assert (await asked(gateway)).code == "model_not_found"
    await processes.start("scheduler-b")
    await eventually(processes.health_file("scheduler-b").exists, what="the standby's health")
    pool = Database.open(database.owner)
    before = await leader_of(pool)
    assert before.scheduler_id == "scheduler-a"

    bound = Bound(TAKEOVER_S, references)
    loop = asyncio.get_running_loop()
    leader.kill()
    killed_at_s = loop.time()
    await asked(gateway)
    takeover_s = loop.time() - killed_at_s

    figure(f"takeover after {takeover_s:.2f} s")
    bound.check(takeover_s, "the takeover")
    after = await leader_of(pool)
    assert after.scheduler_id == "scheduler-b" and after.epoch > before.epoch
    await pool.close()


@in_time
async def test_a_hung_leader_is_replaced_soon_and_goes_on_as_a_standby(
    processes: SchedulerProcesses,
    gateway: NatsBus,
    database: TestDatabase,
    references: int,
    figure: Figure,
) -> None:
    hung = await processes.start("scheduler-a")
    await asked(gateway)
    await processes.start("scheduler-b")
    await eventually(processes.health_file("scheduler-b").exists, what="the standby's health")
    pool = Database.open(database.owner)

    bound = Bound(TAKEOVER_S, references)
    loop = asyncio.get_running_loop()
    hung.send_signal(signal.SIGSTOP)
    stopped_at_s = loop.time()
    await asked(gateway)
    takeover_s = loop.time() - stopped_at_s
    hung.send_signal(signal.SIGCONT)

    figure(f"takeover after {takeover_s:.2f} s")
    bound.check(takeover_s, "the takeover")
    after = await leader_of(pool)
    assert after.scheduler_id == "scheduler-b"
    assert await asyncio.wait_for(hung.wait(), 10) == EXIT_LEADERSHIP_LOST
    processes.health_file("scheduler-a").unlink()
    await processes.start("scheduler-a")
    await eventually(processes.health_file("scheduler-a").exists, what="the new standby's health")
    await asked(gateway)
    assert await leader_of(pool) == after
    await pool.close()


async def test_a_leader_in_doubt_exits_with_its_own_code(
    processes: SchedulerProcesses, gateway: NatsBus, database: TestDatabase
) -> None:
    process = await processes.start("scheduler-a")
    await asked(gateway)
    world = World(database.owner)

    await world.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE 'hydra-leader/%'"
    )

    assert await asyncio.wait_for(process.wait(), 10) == EXIT_LEADERSHIP_LOST
    await world.close()


async def test_asked_to_stop_it_ends_cleanly_whether_it_leads_or_waits(
    processes: SchedulerProcesses, gateway: NatsBus
) -> None:
    leader = await processes.start("scheduler-a")
    await asked(gateway)
    standby = await processes.start("scheduler-b")
    await eventually(processes.health_file("scheduler-b").exists)

    for process in (standby, leader):
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 10) == EXIT_STOPPED


async def test_it_goes_on_after_nats_was_away(
    processes: SchedulerProcesses, gateway: NatsBus, nats_server: RunningNats
) -> None:
    process = await processes.start("scheduler-a")
    await asked(gateway)

    await nats_server.kill()
    await nats_server.start()

    await asked(gateway)
    assert process.returncode is None
