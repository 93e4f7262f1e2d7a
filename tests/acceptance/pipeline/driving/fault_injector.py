"""What may happen to a running stack at any moment: a process is killed, or stands still."""

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from deploy.local.stack import LocalStack
from tests.acceptance.observing import known_agent_pids, worker_arguments, worker_pids
from tests.acceptance.pipeline.driving.record import Record

KILL_SHARE = 0.6
WITHIN_S = 4.0  # of the first request; sooner rather than later, while a start goes on
SHORTEST_FREEZE_S = 0.3  # goes unnoticed


class Victim(StrEnum):
    STAGE = "stage"
    AGENT = "agent"
    FETCHER = "fetcher"
    LEADER = "leader"
    STANDBY = "standby"
    GATEWAY = "gateway"


SERVICES = tuple(victim for victim in Victim if victim is not Victim.GATEWAY)


@dataclass(frozen=True)
class Fault:
    """Drawn before anything runs, so that a seed repeats it."""

    after_s: float
    victim: Victim
    position: float  # in [0, 1): which one of those that there are then
    frozen_s: float | None  # None: it is killed

    @classmethod
    def draw(cls, random: Random, victims: Sequence[Victim], longest_freeze_s: float) -> "Fault":
        frozen_s = random.uniform(SHORTEST_FREEZE_S, longest_freeze_s)
        return cls(
            after_s=WITHIN_S * random.betavariate(1, 2),
            victim=random.choice(victims),
            position=random.random(),
            frozen_s=None if random.random() < KILL_SHARE else frozen_s,
        )

    def __str__(self) -> str:
        what = "kill" if self.frozen_s is None else f"freeze for {self.frozen_s:.1f} s"
        return f"after {self.after_s:.1f} s {what} {self.victim} at {self.position:.2f}"


@dataclass(frozen=True)
class InjectedFault:
    fault: Fault
    name: str | None  # None: there was nobody of that kind

    def __str__(self) -> str:
        return f"{self.fault}: {self.name or 'nobody there'}"


@dataclass(frozen=True)
class FaultInjector:
    stack: LocalStack
    record: Record

    async def inject(self, fault: Fault) -> InjectedFault:
        """Returns when the victim is dead, or moves again."""
        await asyncio.sleep(fault.after_s)
        if fault.victim is Victim.STAGE:
            return InjectedFault(fault, await self._inject_into_stage(fault))
        names = await self._names(fault.victim)
        if not names:
            return InjectedFault(fault, None)
        name = names[int(fault.position * len(names))]
        await self._inject_into_service(name, fault.frozen_s)
        return InjectedFault(fault, name)

    async def _names(self, victim: Victim) -> list[str]:
        names = sorted(name for name in self.stack.processes if self.stack.pid(name) is not None)
        if victim not in (Victim.LEADER, Victim.STANDBY):
            return [name for name in names if name.startswith(f"{victim}-")]
        leader = await self.record.value("SELECT scheduler_id FROM leadership")
        schedulers = [name for name in names if name.startswith("scheduler-")]
        return [name for name in schedulers if (name == leader) == (victim is Victim.LEADER)]

    async def _inject_into_service(self, name: str, frozen_s: float | None) -> None:
        known_agent_pids(self.stack)
        if frozen_s is None:
            self.stack.kill(name)
            return
        self.stack.kill(name, signal.SIGSTOP)
        await asyncio.sleep(frozen_s)
        self.stack.kill(name, signal.SIGCONT)

    async def _inject_into_stage(self, fault: Fault) -> str | None:
        pids = sorted(worker_pids(self.stack))
        if not pids:
            return None
        pid = pids[int(fault.position * len(pids))]
        name = f"{self._agent_of(pid)}'s worker"
        try:
            descriptor = os.pidfd_open(pid)  # its number may be another's by the time it thaws
        except ProcessLookupError:
            return None
        try:
            await _signal(descriptor, fault.frozen_s)
        finally:
            os.close(descriptor)
        return name

    def _agent_of(self, pid: int) -> str:
        agent_pid = worker_arguments(pid)[-1:]
        agents = (name for name in self.stack.processes if name.startswith("agent-"))
        return next((n for n in agents if [str(self.stack.pid(n))] == agent_pid), "a dead agent")


async def _signal(descriptor: int, frozen_s: float | None) -> None:
    try:
        if frozen_s is None:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            return
        signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
        await asyncio.sleep(frozen_s)
        signal.pidfd_send_signal(descriptor, signal.SIGCONT)
    except ProcessLookupError:  # it has ended: killed while frozen, or just before
        return
