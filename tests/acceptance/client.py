"""A client of the running stack, as a user's program would be."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.waiting import eventually

Json = dict[str, Any]


@dataclass
class Answer:
    """What one streamed chat completion gave."""

    status: int = 0
    text: str = ""
    finish_reason: str | None = None
    error: Json | None = None
    num_chunks: int = 0
    progress: list[str] = field(default_factory=list)
    request_id: str | None = None

    @property
    def is_complete(self) -> bool:
        return self.status == 200 and self.error is None and self.finish_reason is not None


class Client:
    def __init__(self, url: str, api_key: str, max_connections: int = 200) -> None:
        self.url, self.api_key = url, api_key
        self.http = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(120, connect=10),
            limits=httpx.Limits(max_connections=max_connections),
        )

    async def close(self) -> None:
        await self.http.aclose()

    async def register(self, name: str, source: str, **settings: Any) -> Json:
        body = {"name": name, "source": source, **settings}
        response = await self.http.post("/api/v1/models", json=body)
        assert response.status_code == 202, response.text
        model: Json = response.json()
        return model

    async def model(self, name: str) -> Json:
        response = await self.http.get(f"/api/v1/models/{name}")
        assert response.status_code == 200, response.text
        found: Json = response.json()
        return found

    async def imported(self, name: str, *, timeout_s: float = 120) -> Json:
        """The model once its import has ended, well or not."""

        async def ended() -> Json | None:
            model = await self.model(name)
            return model if model["state"] in ("READY", "FAILED") else None

        found: Json = await eventually(  # type: ignore[assignment]  # what `ended` returns
            ended, timeout_s=timeout_s, poll_s=0.1, what=f"the import of {name}"
        )
        return found

    async def ready(self, name: str, source: str, **settings: Any) -> Json:
        await self.register(name, source, **settings)
        model = await self.imported(name)
        assert model["state"] == "READY", model
        return model

    async def delete(self, name: str) -> None:
        response = await self.http.delete(f"/api/v1/models/{name}")
        assert response.status_code == 202, response.text

    async def get(self, path: str) -> Any:
        response = await self.http.get(path)
        assert response.status_code == 200, f"{path}: {response.text}"
        return response.json()

    async def chat(self, model: str, content: str, **parameters: Any) -> httpx.Response:
        return await self.http.post(
            "/v1/chat/completions", json=chat_body(model, content, parameters)
        )

    async def stream(
        self, model: str, content: str, *, into: Answer | None = None, **parameters: Any
    ) -> Answer:
        """Read a whole stream; `into` can be watched from outside while it grows."""
        answer = into if into is not None else Answer()
        body = chat_body(model, content, {**parameters, "stream": True})
        async with self.http.stream("POST", "/v1/chat/completions", json=body) as response:
            answer.status = response.status_code
            answer.request_id = response.headers.get("x-request-id")
            if response.status_code != 200:
                answer.error = json.loads(await response.aread())["error"]
                return answer
            await _read_events(response.aiter_lines(), answer)
        return answer


def chat_body(model: str, content: str, parameters: Json) -> Json:
    return {"model": model, "messages": [{"role": "user", "content": content}], **parameters}


async def _read_events(lines: AsyncIterator[str], answer: Answer) -> None:
    async for line in lines:
        if line.startswith(":"):
            answer.progress.append(line[1:].strip())
        elif line.startswith("data: ") and line != "data: [DONE]":
            _read_chunk(json.loads(line[6:]), answer)


def _read_chunk(chunk: Json, answer: Answer) -> None:
    answer.num_chunks += 1
    if "error" in chunk:
        answer.error = chunk["error"]
    for choice in chunk.get("choices", ()):
        answer.text += choice.get("delta", {}).get("content") or ""
        answer.finish_reason = choice.get("finish_reason") or answer.finish_reason
