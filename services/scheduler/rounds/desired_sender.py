"""Tells fetchers and agents what their node shall run, again and again until they follow it."""

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from libs.common.bus.bus import Bus
from libs.common.bus.messages import (
    AgentHeartbeat,
    DesiredReply,
    FetcherHeartbeat,
    NodeDesired,
    Step,
)
from libs.common.bus.subjects import NODE_DESIRED_AGENT, NODE_DESIRED_FETCHER, Subject
from libs.common.cancellation import cancel_all
from libs.common.clock import Clock
from libs.common.errors import BusError, BusPayloadTooLarge
from services.scheduler.observation.heartbeat_log import HeartbeatLog
from services.scheduler.observation.timeline import Timeline
from services.scheduler.policy.observed import Heard, Observed
from services.scheduler.rounds.pacing import Pace

# Answers to thousands of messages at once would come too late. A node that answers takes
# milliseconds; one that does not keeps others waiting no longer than the turn.
MOST_TOLD_AT_ONCE = 64
TURN_S = 0.05

logger = logging.getLogger(__name__)


class Role(StrEnum):
    """The two processes of a node that follow its desired state."""

    FETCHER = "fetcher"
    AGENT = "agent"

    @property
    def subject(self) -> Subject:
        return NODE_DESIRED_AGENT if self is Role.AGENT else NODE_DESIRED_FETCHER


class NodeProcess(NamedTuple):  # a key that is made for all nodes, each second
    node_id: str
    role: Role


@dataclass(frozen=True)
class _Acceptance:
    boot_id: str
    version: int
    at_s: float


AnyHeard = Heard[AgentHeartbeat] | Heard[FetcherHeartbeat]


class DesiredSender:
    """One request at a time and process; a newer version follows as soon as it is answered."""

    def __init__(
        self, bus: Bus, log: HeartbeatLog, timeline: Timeline, clock: Clock, timeout_s: float
    ) -> None:
        self._bus = bus
        self._log = log
        self._timeline = timeline
        self._clock = clock
        self._timeout_s = timeout_s
        self._pace, self._pace_of_unresponsive = (Pace(MOST_TOLD_AT_ONCE, TURN_S) for _ in range(2))
        self._unresponsive: set[NodeProcess] = set()  # who did not answer the last time
        self._desired: dict[str, NodeDesired] = {}
        self._accepted: dict[NodeProcess, _Acceptance] = {}
        self._boots: dict[NodeProcess, str] = {}  # whose workers the rows are about
        self._tasks: dict[NodeProcess, asyncio.Task[None]] = {}
        self._unanswered: set[str] = set()
        self._unsendable: dict[NodeProcess, int] = {}  # versions that no message holds

    def take_unanswered(self) -> frozenset[str]:
        """Nodes that did not accept what they were told; whoever takes them looks at them again."""
        found, self._unanswered = frozenset(self._unanswered), set()
        return found

    def look_again(self, node_ids: Iterable[str]) -> None:
        """They have yet to be told."""
        self._unanswered.update(node_ids)

    def unknown(self, observed: Observed, versions: Mapping[str, int]) -> list[str]:
        """Nodes that must be told something whose content this sender does not have."""
        behind = dict.fromkeys(f.node_id for f in self._behind(observed, versions))
        return [node_id for node_id in behind if self._version_of(node_id) != versions[node_id]]

    def ensure(
        self, observed: Observed, desired: Iterable[NodeDesired], versions: Mapping[str, int]
    ) -> None:
        """Start telling whoever did not follow these versions when `observed` was true.

        Whoever calls it needs to name only nodes whose version, boot or acceptance has changed,
        and the unanswered ones; and all of them now and then.
        """
        self._desired.update({item.node_id: item for item in desired})
        for process in self._behind(observed, versions):
            heard = _heard(observed, process)
            assert heard is not None, "nobody is behind before it was heard"
            self._boots[process] = heard.heartbeat.boot_id
            if process not in self._tasks:
                self._start(process)

    def keep_only(self, node_ids: Collection[str]) -> None:
        """What is known of others is forgotten."""
        for node_id in self._desired.keys() - node_ids:
            del self._desired[node_id]
        for known in (self._accepted, self._boots, self._unsendable):
            for process in [process for process in known if process.node_id not in node_ids]:
                del known[process]
        self._unresponsive = {item for item in self._unresponsive if item.node_id in node_ids}

    async def close(self) -> None:
        await cancel_all(self._tasks.values())

    def _version_of(self, node_id: str) -> int | None:
        desired = self._desired.get(node_id)
        return desired.version if desired is not None else None

    def _behind(self, observed: Observed, versions: Mapping[str, int]) -> list[NodeProcess]:
        """Nobody is told anything before this leader has heard it and knows its boot."""
        found = []
        for node_id, version in versions.items():
            for role in Role:
                process = NodeProcess(node_id, role)
                heard = _heard(observed, process)
                if heard is not None and self._is_behind(process, heard, version):
                    found.append(process)
        return found

    def _is_behind(self, process: NodeProcess, heard: AnyHeard, version: int) -> bool:
        accepted = self._accepted.get(process)
        if self._unsendable.get(process) == version:
            return False
        if accepted is None or accepted.boot_id != heard.heartbeat.boot_id:
            return True  # also an up-to-date node learns the new leader's epoch
        if accepted.version != version:
            return True
        return heard.at_s > accepted.at_s and heard.heartbeat.accepted_version != version

    def _newest(self, process: NodeProcess) -> AnyHeard | None:
        """Also what came after the round began."""
        if process.role is Role.AGENT:
            return self._log.agents.of(process.node_id)
        return self._log.fetchers.of(process.node_id)

    def _start(self, process: NodeProcess) -> None:
        task = asyncio.create_task(self._tell(process))
        self._tasks[process] = task
        task.add_done_callback(lambda _: self._end(process))

    def _end(self, process: NodeProcess) -> None:
        self._tasks.pop(process, None)
        accepted = self._accepted.get(process)
        if accepted is None or accepted.version != self._version_of(process.node_id):
            self._unanswered.add(process.node_id)

    async def _tell(self, process: NodeProcess) -> None:
        """Until the newest version is accepted or a try fails; the next round tries again."""
        told: NodeDesired | None = None
        while self._desired.get(process.node_id) is not told:
            async with self._pace_of(process).turn():
                told = self._desired.get(process.node_id)
                if told is None or not await self._try(process, told):
                    return

    def _pace_of(self, process: NodeProcess) -> Pace:
        """Those who may be dead keep nobody waiting whose turn it is to start."""
        return self._pace_of_unresponsive if process in self._unresponsive else self._pace

    async def _try(self, process: NodeProcess, desired: NodeDesired) -> bool:
        """Whether it was answered."""
        try:
            await self._tell_once(process, desired)
            self._unresponsive.discard(process)
        except BusPayloadTooLarge as exc:
            self._note_unsendable(process, desired, exc)
            return False
        except BusError as exc:
            logger.warning("%s of %s was not told: %s", process.role, process.node_id, exc)
            self._unresponsive.add(process)
            return False
        return True

    def _note_unsendable(
        self, process: NodeProcess, desired: NodeDesired, exc: BusPayloadTooLarge
    ) -> None:
        """The node runs what it was told last. What it was to start fails at its deadline, by this
        node's fault, so it is started elsewhere, and the next version is smaller."""
        self._unsendable[process] = desired.version
        logger.error(
            "%s has too much to run to be told (%d workers): %s",
            *(process.node_id, len(desired.workers), exc),
        )

    async def _tell_once(self, process: NodeProcess, desired: NodeDesired) -> None:
        started_at, boot_id = self._clock.now(), self._boots[process]
        newest = self._newest(process)
        if newest is None or newest.heartbeat.boot_id != boot_id:
            return  # it restarted: its old workers must leave the rows first
        addressed = desired.model_copy(update={"boot_id": boot_id})
        reply = await self._bus.request(
            process.role.subject, process.node_id, addressed, timeout_s=self._timeout_s
        )
        assert isinstance(reply, DesiredReply)
        if reply.refused is not None:
            logger.warning("%s of %s refused: %s", process.role, process.node_id, reply.refused)
            return
        self._accepted[process] = _Acceptance(
            boot_id, reply.accepted_version, self._clock.monotonic_s()
        )
        step = Step(name=f"tell {process.role}", started_at=started_at, ended_at=self._clock.now())
        for receiver_id, traceparent in _told_of(process.role, desired).items():
            self._timeline.delivered(receiver_id, step, traceparent)


def _told_of(role: Role, desired: NodeDesired) -> dict[str, str | None]:
    """The workers, or fetches, that this one of the two is to run, with their starts' traces."""
    if role is Role.AGENT:
        return {worker.worker_id: worker.traceparent for worker in desired.workers}
    return {fetch.fetch_id: fetch.traceparent for fetch in desired.fetches}


def _heard(observed: Observed, process: NodeProcess) -> AnyHeard | None:
    if process.role is Role.AGENT:
        return observed.agents.get(process.node_id)
    return observed.fetchers.get(process.node_id)
