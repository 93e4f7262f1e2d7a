"""A hollow stage among its neighbours: meets them, passes the first prefill on, notices a loss."""

import asyncio
import hashlib
from contextlib import suppress

from benchmarks.controlplane.hollow.workers.data_plane import DataPlane, RingEvent, RingMessage
from services.worker.frames.dataplane import Neighbour
from services.worker.frames.frames import ConnectPeers, Registered, StartWorker
from services.worker.runtime.dataplane.errors import LinkTimedOut, NeighbourLost
from services.worker.runtime.prefill_steps import EntryEvents, FirstAnswer, FollowerEvents

ASK_AGAIN_S = 0.5  # a neighbour that has not answered yet
HEAD_BEGINS = 0.9  # of the time of a prefill: then the last stage's part is back at the entry


class RingMember:
    def __init__(self, plane: DataPlane, start: StartWorker, answer: FirstAnswer) -> None:
        self._plane, self._start = plane, start
        is_entry = start.stage_index == 0
        self._events = EntryEvents(answer) if is_entry else FollowerEvents(answer.prefill)
        self._neighbours: tuple[Neighbour, ...] = ()  # the previous and the next, or one twice
        self._asked: set[int] = set()  # stages that know this one
        self._met: set[int] = set()  # stages that said so when they were asked
        self._met_all = asyncio.Event()
        self._lost: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        plane.join(start.worker_id, self._hear)

    @property
    def registered(self) -> Registered:
        public_key = hashlib.blake2b(self._start.worker_id.encode(), digest_size=20).hexdigest()
        return Registered(self._plane.address_of(self._start.worker_id), public_key)

    def connect(self, frame: ConnectPeers) -> None:
        self._neighbours = (frame.previous, frame.next)
        for stage_index in self._asked:
            self._tell_neighbours(RingEvent.HELLO_BACK, stage_index)

    async def meet(self) -> None:
        """Returns when both neighbours know this stage. Raises LinkTimedOut."""
        timeout_s = self._start.start_timeout_ms / 1000
        try:
            async with asyncio.timeout(timeout_s):
                while not self._met_all.is_set():
                    self._tell_neighbours(RingEvent.HELLO)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(ASK_AGAIN_S):
                            await self._met_all.wait()
        except TimeoutError:
            raise LinkTimedOut(self._start.stage_index, timeout_s) from None

    async def until_lost(self, notice_s: float) -> None:
        """Raises NeighbourLost some time after a neighbour's end."""
        stage_index = await asyncio.shield(self._lost)
        await asyncio.sleep(notice_s)
        is_previous = stage_index == self._neighbours[0].stage
        how = "its connection ended" if is_previous else "the connection to it ended"
        raise NeighbourLost(self._start.stage_index, stage_index, how)

    def begin_prefill(self, prefill_s: float) -> None:
        """Of the entry: the first one goes round the ring, as long as that takes."""
        self._compute(HEAD_BEGINS * prefill_s / self._start.num_stages)

    def leave(self) -> None:
        """It has ended, however."""
        self._plane.leave(self._start.worker_id)
        self._tell_neighbours(RingEvent.GONE)
        self._lost.cancel()

    def _compute(self, slot_s: float) -> None:
        asyncio.get_running_loop().call_later(slot_s, self._pass_on, slot_s)

    def _pass_on(self, slot_s: float) -> None:
        self._events.leaving(is_sampled=True)
        _previous, following = self._neighbours
        message = RingMessage(RingEvent.PREFILL, self._start.stage_index, slot_s)
        self._plane.send(following.address, message)
        self._events.left()

    def _hear(self, message: RingMessage) -> None:
        match message.event:
            case RingEvent.HELLO:
                self._asked.add(message.stage_index)
                self._tell_neighbours(RingEvent.HELLO_BACK, message.stage_index)
            case RingEvent.HELLO_BACK:
                self._note_met(message.stage_index)
            case RingEvent.PREFILL:
                self._events.received(is_sampled=True)
                if self._start.stage_index > 0:
                    self._compute(message.slot_s)
            case RingEvent.GONE if not self._lost.done():
                self._lost.set_result(message.stage_index)

    def _note_met(self, stage_index: int) -> None:
        self._met.add(stage_index)
        if self._met.issuperset(neighbour.stage for neighbour in self._neighbours):
            self._met_all.set()

    def _tell_neighbours(self, event: RingEvent, stage_index: int | None = None) -> None:
        """Both, or one of them, as far as they are known."""
        for neighbour in set(self._neighbours):
            if stage_index in (None, neighbour.stage):
                message = RingMessage(event, self._start.stage_index)
                self._plane.send(neighbour.address, message)
