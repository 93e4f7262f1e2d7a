"""The gateway's HTTP API for one command. Whatever goes wrong is a CliError of one line."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from deploy.cli.errors import NotConnected, Refused
from deploy.cli.refusals import refusal
from deploy.cli.target import Target

_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
# A stream is never silent for so long: progress comes more often.
_STREAM_TIMEOUT = httpx.Timeout(15.0, connect=5.0, read=60.0)
_PAGE_ITEMS = 1000
_View = TypeVar("_View")


@dataclass(frozen=True)
class Reply:
    content: bytes

    def view(self, kind: type[_View]) -> _View:
        """Raises Refused where the server is not what this client knows."""
        try:
            return TypeAdapter(kind).validate_json(self.content)
        except ValidationError as exc:
            first = exc.errors()[0]
            where = ".".join(map(str, first["loc"]))
            message = f"this answer cannot be read ({where}: {first['msg']})"
            raise Refused(f"{message}; is the server of the same version?") from exc


class Client:
    """Use it as a context manager. Every call raises CliError."""

    def __init__(self, target: Target, transport: httpx.BaseTransport | None = None) -> None:
        self.target = target
        self._http = httpx.Client(
            base_url=target.url,
            headers={"Authorization": f"Bearer {target.api_key}"},
            timeout=_TIMEOUT,
            transport=transport,
            trust_env=not target.is_local,  # a proxy of the environment reaches no loopback
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Reply:
        return self._call("GET", path, params=params)

    def get_list(self, path: str) -> Reply:
        """A list that is told in pages, whole."""
        items: list[object] = []
        params: Mapping[str, str | int] | None = {"limit": _PAGE_ITEMS}
        following: str | None = path
        while following is not None:
            response = self._response("GET", following, params=params)
            items += Reply(response.content).view(list[object])
            following, params = response.links.get("next", {}).get("url"), None
        return Reply(json.dumps(items).encode())

    def post(self, path: str, body: Mapping[str, object]) -> Reply:
        return self._call("POST", path, body=body)

    def patch(self, path: str, body: Mapping[str, object]) -> Reply:
        return self._call("PATCH", path, body=body)

    def delete(self, path: str) -> Reply:
        return self._call("DELETE", path)

    def probe(self, path: str) -> Reply:
        """The answer, whatever its status."""
        with self._reaching():
            return Reply(self._http.get(path).content)

    @contextmanager
    def stream(self, path: str, body: Mapping[str, object]) -> Iterator[Iterator[str]]:
        """The answer's lines as they come. Leaving the block hangs up, which ends the work."""
        with (
            self._reaching(),
            self._http.stream("POST", path, json=body, timeout=_STREAM_TIMEOUT) as response,
        ):
            if response.is_error:
                response.read()
                raise _refused(response)
            yield response.iter_lines()

    def _call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> Reply:
        return Reply(self._response(method, path, params=params, body=body).content)

    def _response(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> httpx.Response:
        with self._reaching():
            response = self._http.request(method, path, params=params, json=body)
        if response.is_error:
            raise _refused(response)
        return response

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        url = self.target.url
        try:
            yield
        except httpx.TimeoutException as exc:
            raise NotConnected(f"{url} did not answer in time; is it overloaded?") from exc
        except httpx.TransportError as exc:
            advice = "start a stack with 'hydraserve up', or set HYDRASERVE_URL"
            raise NotConnected(f"cannot reach {url} ({_reason(exc)}); {advice}") from exc


def model_path(name: str) -> str:
    """A model's name may hold slashes; they stay."""
    return f"/api/v1/models/{quote(name)}"


def _refused(response: httpx.Response) -> Exception:
    return refusal(response.status_code, response.content, response.headers.get("retry-after"))


def _reason(exc: httpx.TransportError) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
