"""The few calls of the gateway's HTTP API that `up` and `demo` make, as any client would."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from deploy.local.errors import ApiError
from deploy.local.report.api_types import ColdStartInfo, ModelInfo, NodeInfo, StreamEvent

_CALL_TIMEOUT_S = 15.0
_SILENCE_TIMEOUT_S = 60.0  # of a stream: progress comes more often than that
_POLL_PERIOD_S = 0.2


class ApiClient:
    """Use it as a context manager. Calls raise ApiError with what the gateway answered."""

    def __init__(self, url: str, api_key: str) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=_CALL_TIMEOUT_S,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def ensure_model(self, name: str, source: Path, settings: Mapping[str, object]) -> None:
        """Registers it, or changes the settings of one that is there and has not failed."""
        path = f"/api/v1/models/{name}"
        existing = await self._client.get(path)
        if existing.status_code == 200 and existing.json()["state"] != "FAILED":
            await self._call("PATCH", path, settings)
            return
        if existing.status_code == 200:
            await self._call("DELETE", path)
        body = {"name": name, "source": str(source), **settings}
        await self._call("POST", "/api/v1/models", body)

    async def model(self, name: str) -> ModelInfo:
        body = await self._call("GET", f"/api/v1/models/{name}")
        return ModelInfo.parse(body)

    async def wait_imported(self, name: str, timeout_s: float) -> AsyncIterator[ModelInfo]:
        """Yields each change until it is READY. Raises ApiError when it fails or takes too long."""
        deadline = time.monotonic() + timeout_s
        last: ModelInfo | None = None
        while last is None or last.state != "READY":
            model = await self.model(name)
            if model.state == "FAILED":
                raise ApiError(f"the import of {name} failed: {model.cause}")
            if time.monotonic() > deadline:
                raise ApiError(f"{name} is still {model.state} after {timeout_s:g} s")
            if model != last:
                yield model
                last = model
            await asyncio.sleep(_POLL_PERIOD_S)

    async def chat(self, model: str, question: str, max_tokens: int) -> AsyncIterator[StreamEvent]:
        """A streamed, greedy answer; its first event has the request's id.

        Raises ApiError for a refusal or an error in the stream.
        """
        messages = [{"role": "user", "content": question}]
        body = {"model": model, "messages": messages, "max_tokens": max_tokens}
        options = {"stream": True, "temperature": 0}
        timeout = httpx.Timeout(_CALL_TIMEOUT_S, read=_SILENCE_TIMEOUT_S)
        request = self._client.stream(
            "POST", "/v1/chat/completions", json=body | options, timeout=timeout
        )
        try:
            async with request as response:
                if response.status_code != 200:
                    await response.aread()
                    raise _refused(response)
                yield StreamEvent(request_id=response.headers["X-Request-Id"])
                async for line in response.aiter_lines():
                    if event := StreamEvent.parse(line):
                        yield event
        except httpx.TransportError as exc:
            raise ApiError(f"the stream ended: {type(exc).__name__} {exc}") from exc

    async def cold_start_of(self, request_id: str) -> ColdStartInfo | None:
        """The cold start that the request waited for, if there was one."""
        request = await self._call("GET", f"/api/v1/requests/{request_id}")
        cold_start_id = request["cold_start_id"]
        return None if cold_start_id is None else await self.cold_start(cold_start_id)

    async def cold_start(self, cold_start_id: str) -> ColdStartInfo:
        return ColdStartInfo.parse(await self._call("GET", f"/api/v1/cold-starts/{cold_start_id}"))

    async def nodes(self) -> list[NodeInfo]:
        return [NodeInfo.parse(item) for item in await self._call("GET", "/api/v1/nodes")]

    async def wait_nodes(self, count: int, timeout_s: float) -> None:
        """Until so many are known to the scheduler. Raises ApiError when it takes too long."""
        deadline = time.monotonic() + timeout_s
        while (num_whole := sum(node.is_whole for node in await self.nodes())) < count:
            if time.monotonic() > deadline:
                raise ApiError(f"{num_whole} of {count} nodes are known after {timeout_s:g} s")
            await asyncio.sleep(_POLL_PERIOD_S)

    async def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        try:
            response = await self._client.request(method, path, json=body)
        except httpx.TransportError as exc:
            raise ApiError(f"{method} {path}: {type(exc).__name__} {exc}") from exc
        if response.is_error:
            raise _refused(response)
        return response.json() if response.content else None


def _refused(response: httpx.Response) -> ApiError:
    """From OpenAI's error format, or whatever else was answered."""
    try:
        message = response.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        message = response.text[:500]
    request = response.request
    return ApiError(f"{request.method} {request.url.path}: {response.status_code} {message}")
