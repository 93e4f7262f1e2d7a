"""A launcher whose processes are the test itself, speaking real frames over real socketpairs."""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.worker.agent.devices.device import Device
from services.worker.agent.processes.frame_connection import read_body
from services.worker.agent.processes.launcher import NOTHING
from services.worker.agent.processes.worker_process import Exit
from services.worker.errors import LaunchError
from services.worker.frames.frames import ToAgent, ToWorker, decode_to_worker, encode


class FakeProcess:
    """What a worker process would do, the test does: `say`, `hear`, `exit`."""

    def __init__(self, pid: int, obeys_stop: bool) -> None:
        self.pid = pid
        self.num_stops = 0
        self.socket, self._worker_end = socket.socketpair()
        self._obeys_stop = obeys_stop
        self._exit: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def say(self, frame: ToAgent) -> None:
        await self.say_bytes(encode(frame))

    async def say_bytes(self, data: bytes) -> None:
        _, writer = await self._opened()
        writer.write(data)
        await writer.drain()

    async def hear(self) -> ToWorker:
        reader, _ = await self._opened()
        async with asyncio.timeout(2):
            body = await read_body(reader)
        assert body is not None, "the agent closed the socket"
        return decode_to_worker(body)

    async def hang_up(self) -> None:
        _, writer = await self._opened()
        writer.close()
        await writer.wait_closed()

    async def exit(self, code: int, *last_lines: str) -> None:
        await self.hang_up()
        if not self._exit.done():
            self._exit.set_result(Exit(code, last_lines))

    def lose_watch(self, error: Exception) -> None:
        """Whoever waits for its end hears of the error, until it is stopped."""
        self._exit.set_exception(error)
        self._exit = asyncio.get_running_loop().create_future()

    async def wait(self) -> Exit:
        return await asyncio.shield(self._exit)

    async def stop(self) -> None:
        self.num_stops += 1
        if self._obeys_stop:
            await self.exit(-15)
        await self.wait()

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is None:
            self._streams = await asyncio.open_unix_connection(sock=self._worker_end)
        return self._streams


@dataclass
class FakeLauncher:
    refusal: str | None = None
    obeys_stop: bool = True
    processes: dict[str, FakeProcess] = field(default_factory=dict)
    devices: dict[str, Device] = field(default_factory=dict)
    environments: dict[str, Mapping[str, str]] = field(default_factory=dict)
    num_launches: int = 0
    num_standbys: int = 0
    may_launch: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_launch.set()

    async def launch(
        self, worker_id: str, device: Device, environment: Mapping[str, str] = NOTHING
    ) -> FakeProcess:
        self.num_launches += 1
        await self.may_launch.wait()
        if self.refusal is not None:
            raise LaunchError(self.refusal)
        process = FakeProcess(1000 + self.num_launches, self.obeys_stop)
        self.processes[worker_id], self.devices[worker_id] = process, device
        self.environments[worker_id] = environment
        return process
