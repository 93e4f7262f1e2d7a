"""A route that forgets a request's body once it is parsed; around a large one others run."""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from services.gateway.http.body_pace import pause_for_others


class ReleasingRoute(APIRoute):
    """The handler gets a request object of its own. The one that lives as long as the response is
    sent has never read the body, so neither its bytes nor its values wait with an answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_own(request: Request) -> Response:
            return await handle(_OwnRequest(request.scope, request.receive))

        return handle_own


class _OwnRequest(Request):
    async def json(self) -> Any:
        num_bytes = len(await self.body())
        await pause_for_others(num_bytes)
        value = await super().json()
        await pause_for_others(num_bytes)
        return value
