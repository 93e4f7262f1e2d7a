"""Which server a command speaks to, and with which key.

The URL: the option, else HYDRASERVE_URL, else the stack that runs from the local state folder. The
key: the option, else HYDRASERVE_API_KEY, else the state folder's own, which is sent to no other
server than that folder's.
"""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from deploy.cli.errors import NotAuthorized, NotConnected
from deploy.local.state.state_folder import StateFolder

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Target:
    url: str  # without a slash or `/v1` at its end
    api_key: str = field(repr=False)

    @property
    def is_local(self) -> bool:
        return urlsplit(self.url).hostname in _LOOPBACK


def find_target(url: str | None, api_key: str | None, state: StateFolder) -> Target:
    """Raises NotConnected without a URL, NotAuthorized without a key for it."""
    local_url = _content(state.gateway_url)
    chosen = _base(url) if url else local_url
    if chosen is None:
        message = (
            f"no server is known: start one with 'hydraserve up' ({state.path} has none running)"
        )
        raise NotConnected(f"{message}, or set HYDRASERVE_URL")
    if urlsplit(chosen).scheme not in ("http", "https") or not urlsplit(chosen).hostname:
        raise NotConnected(f"{chosen!r} is no URL: write it as http://host:port")
    is_own = _same(chosen, local_url)
    key = api_key or (_content(state.api_key) if is_own else None)
    if key is None:
        raise NotAuthorized(f"no API key for {chosen}: set HYDRASERVE_API_KEY or give --api-key")
    return Target(_base(chosen), key)


def _base(url: str) -> str:
    """OpenAI's clients are given the address with `/v1`: here it is the same server."""
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _same(url: str, local_url: str | None) -> bool:
    return local_url is not None and _base(url) == _base(local_url)


def _content(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:  # not there, or another user's: then it is not ours to use
        return None
