"""Clients that read slowly lose nothing; those that do not read at all are sent away."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import Any

from services.gateway.settings import Limits
from tests.support.waiting import eventually
from tests.unit.gateway.stores import KEY
from tests.unit.gateway.tiny import END_ID, ids_of
from tests.unit.gateway.world import FAST, GatewayWorld, gateway_world, text_of


@dataclass
class NonReadingClient:
    """Asks for a stream over ASGI and reads none of it."""

    headers: dict[str, str] = field(default_factory=dict)
    was_hung_up_on: bool = False
    num_frames: int = 0
    _has_asked: bool = False

    async def ask(self, world: GatewayWorld) -> None:
        """Returns when the request is over."""
        await asyncio.wait_for(world.app(self._scope(), self._receive, self._send), 10)  # type: ignore[arg-type] # plain dicts

    async def _receive(self) -> dict[str, Any]:
        if self._has_asked:
            await asyncio.Event().wait()
        self._has_asked = True
        messages = [{"role": "user", "content": "x"}]
        body = json.dumps({"model": "tiny", "stream": True, "messages": messages}).encode()
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            self.num_frames += 1
            await asyncio.Event().wait()  # the socket's buffers are full, for ever

    def _close_connection(self) -> None:
        self.was_hung_up_on = True

    def _scope(self) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/chat/completions",
            "raw_path": b"/v1/chat/completions",
            "root_path": "",
            "query_string": b"",
            "headers": [(k.encode(), v.encode()) for k, v in (headers | self.headers).items()],
            "client": None,
            "server": None,
            "state": {"close_connection": self._close_connection},
        }


async def test_a_reader_that_stops_reading_is_cut_off_and_its_worker_told() -> None:
    limits = Limits(max_unread_tokens=4, num_template_processes=1)
    async with gateway_world(limits=limits) as world:
        world.worker.answer_ids = (*ids_of("x" * 50), END_ID)
        client = NonReadingClient()

        await client.ask(world)

        assert client.num_frames == 1 and client.was_hung_up_on
        await eventually(lambda: len(world.worker.cancelled) == 1)
        await eventually(lambda: len(world.writer.ended) == 1)
        assert world.writer.ended[0].outcome == "client_too_slow"


async def test_one_that_stops_when_the_worker_has_finished_is_cut_off_too() -> None:
    async with gateway_world() as world:
        client = NonReadingClient()

        await client.ask(world)

        assert client.was_hung_up_on
        await eventually(lambda: len(world.worker.acknowledged) == 1)
        await eventually(lambda: len(world.writer.ended) == 1)
        assert world.writer.ended[0].outcome == "client_too_slow"


async def test_an_answer_that_is_not_read_ends_at_its_deadline_at_the_latest() -> None:
    async with gateway_world(replace(FAST, slow_client_s=60.0)) as world:
        await world.chat()  # the template's process starts more slowly than the deadline allows
        client = NonReadingClient({"x-request-timeout-ms": "1000"})

        await client.ask(world)

        assert client.was_hung_up_on
        await eventually(lambda: len(world.writer.ended) == 2)
        assert world.writer.ended[1].outcome == "deadline"


async def test_a_slow_reader_loses_nothing() -> None:
    limits = Limits(max_unread_tokens=4, num_template_processes=1)
    async with gateway_world(limits=limits) as world:
        world.worker.answer_ids = (*ids_of("abc" * 30), END_ID)

        assert text_of(await world.chat()) == "abc" * 30
