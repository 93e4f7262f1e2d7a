"""The HTTP response of whole answers: it runs the request itself, as that of a stream does."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.gateway.errors import ClientGone
from services.gateway.generation.dispatcher import Dispatcher
from services.gateway.generation.generation_group import run_all
from services.gateway.http.disconnect import run_while_connected
from services.gateway.openai.answer import total_usage
from services.gateway.openai.answer_format import AnswerFormat
from services.gateway.openai.collect import collected
from services.gateway.openai.prepare import Prepared

_CLIENT_CLOSED_REQUEST = 499  # nobody reads it; the log and the metrics do


class WholeResponse(Response):
    """Waits for the answers after the route has returned, so that it holds nothing of the request
    but its prompts' ids."""

    def __init__(
        self, dispatcher: Dispatcher, prepared: Prepared, answer_format: AnswerFormat
    ) -> None:
        super().__init__()
        self._dispatcher, self._prepared, self._format = dispatcher, prepared, answer_format

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises ApiError before any header was sent."""
        response = await self._response(receive)
        await response(scope, receive, send)

    async def _response(self, receive: Receive) -> Response:
        """Parts are made as the client reads them."""
        async with run_all(self._dispatcher, self._prepared.jobs) as group:
            try:
                work = collected(group, self._prepared.answers)
                answers = await run_while_connected(receive, work)
            except ClientGone:
                return Response(status_code=_CLIENT_CLOSED_REQUEST)
        parts = self._format.whole(answers, total_usage(self._prepared.answers))
        if not self._format.has_logprobs:
            return Response(b"".join(parts), media_type="application/json")
        return StreamingResponse(_paced(parts), media_type="application/json")


async def _paced(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Others have their turn between any two."""
    for part in parts:
        yield part
        await asyncio.sleep(0)
