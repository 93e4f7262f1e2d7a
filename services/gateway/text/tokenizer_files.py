"""A model's small files, from the object store, checked against their digests, cached on disk."""

import asyncio
import json
import logging
from dataclasses import dataclass
from typing import Any

from blake3 import blake3

from libs.common.bus.messages import ModelFacts
from libs.common.objectstore.objectstore import ObjectStore
from libs.common.weights.manifest import tokenizer_key
from services.gateway.errors import TokenizerFailed
from services.gateway.text.tokenizer_folder import TokenizerFolder
from services.gateway.text.tokenizer_pool import TokenizerSource

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenizerFiles:
    """The contents that the gateway needs of a model; template and tokens may be absent."""

    tokenizer_json: TokenizerSource
    chat_template: str | None
    special_tokens: dict[str, str]  # bos_token, eos_token, …: what templates refer to


@dataclass(frozen=True)
class FileStore:
    objects: ObjectStore
    folder: TokenizerFolder | None  # None: nothing is kept on disk
    max_bytes: int  # of one file

    async def read(self, summary: ModelFacts) -> TokenizerFiles:
        """Raises TokenizerFailed for what the model lacks or does not match; ObjectStoreError."""
        data = await self._data(summary, "tokenizer.json")
        if data is None:
            raise TokenizerFailed("the model has no tokenizer.json")
        digest, _ = summary.tokenizer_files["tokenizer.json"]
        config = _parse_object(await self._text(summary, "tokenizer_config.json") or "{}")
        template = await self._text(summary, "chat_template.jinja")
        return TokenizerFiles(
            tokenizer_json=TokenizerSource(digest, data),
            chat_template=template or _template_of(config),
            special_tokens=_special_tokens(config),
        )

    async def _text(self, summary: ModelFacts, name: str) -> str | None:
        data = await self._data(summary, name)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError as exc:
            raise TokenizerFailed(f"{name} is not UTF-8") from exc

    async def _data(self, summary: ModelFacts, name: str) -> bytes | None:
        entry = summary.tokenizer_files.get(name)
        if entry is None:
            return None
        digest, size_bytes = entry
        if size_bytes > self.max_bytes:
            raise TokenizerFailed(f"{name} has {size_bytes} bytes, the limit is {self.max_bytes}")
        return await self._cached(digest) or await self._fetched(name, digest, size_bytes)

    async def _cached(self, digest: str) -> bytes | None:
        if self.folder is None:
            return None
        try:
            return await asyncio.to_thread(self.folder.read, digest)
        except OSError as exc:
            logger.warning("a cached file cannot be read, so it is fetched again: %s", exc)
            return None

    async def _fetched(self, name: str, digest: str, size_bytes: int) -> bytes:
        data = await self.objects.get(tokenizer_key(digest), max_bytes=size_bytes)
        if blake3(data).hexdigest() != digest:
            raise TokenizerFailed(f"{name} does not match its digest {digest}")
        if self.folder is not None:
            try:
                await asyncio.to_thread(self.folder.write, digest, data)
            except OSError as exc:
                logger.warning("a file cannot be cached, so the next start fetches it: %s", exc)
        return data


def _parse_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise TokenizerFailed(f"tokenizer_config.json is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise TokenizerFailed("tokenizer_config.json is not an object")
    return value


def _template_of(config: dict[str, Any]) -> str | None:
    """Older files hold the template itself, or a list of named ones."""
    value = config.get("chat_template")
    if isinstance(value, list):
        named = [e for e in value if isinstance(e, dict) and e.get("name") == "default"]
        value = named[-1].get("template") if named else None
    return value if isinstance(value, str) else None


def _special_tokens(config: dict[str, Any]) -> dict[str, str]:
    """`bos_token` and its kind are a text, or an object with the text as `content`."""
    found: dict[str, str] = {}
    for key, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if key.endswith("_token") and isinstance(text, str):
            found[key] = text
    return found
