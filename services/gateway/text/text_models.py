"""A cache of tokenizers and chat templates, by model; the least recently used goes first."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace

from libs.common.bus.messages import ModelFacts
from libs.common.errors import ObjectStoreError
from libs.common.reasons import Reason
from services.gateway.errors import NotServed
from services.gateway.text.tokenizer import Tokenizer
from services.gateway.text.tokenizer_files import FileStore, TokenizerFiles
from services.gateway.text.tokenizer_pool import TokenizerService

READ_TIMEOUT_S = 30.0
_LEAST_BYTES = 1024  # that a model counts with, however small its files are

Files = tuple[tuple[str, str], ...]  # names and digests


@dataclass(frozen=True)
class TextModel:
    tokenizer: Tokenizer
    chat_template: str | None
    special_tokens: dict[str, str]

    def with_template(self, given: str | None) -> "TextModel":
        """One that was given to the model comes before the checkpoint's."""
        return self if given is None else replace(self, chat_template=given)


class TextModelCache:
    """An LRU cache. Concurrent requests for one model share one loading."""

    def __init__(self, files: FileStore, service: TokenizerService, max_bytes: int) -> None:
        """`max_bytes` bounds the files or the vocabularies, whichever are larger, of all that are
        cached; the last one asked for stays, whatever its size."""
        self._files, self._service, self._max_bytes = files, service, max_bytes
        self._loading: OrderedDict[Files, asyncio.Task[TextModel]] = OrderedDict()
        self._sizes: dict[Files, int] = {}
        self._size_bytes = 0  # of all of them

    async def get(self, summary: ModelFacts) -> TextModel:
        """Raises TokenizerFailed, or NotServed when its turn does not come or the object store
        does not answer."""
        key = files_of(summary)
        task = self._loading.get(key)
        if task is None or has_failed(task):
            task = self._loading[key] = asyncio.create_task(self._load(summary))
            task.add_done_callback(has_failed)  # sees the exception if nobody waits any more
            self._resize(key, size_bytes_of(summary))
        self._loading.move_to_end(key)
        self._make_room()
        return await asyncio.shield(task)

    def _note_size(self, key: Files, vocabulary_bytes: int) -> None:
        """Ids far apart make a large vocabulary of a small file."""
        if key in self._sizes:
            self._resize(key, max(self._sizes[key], vocabulary_bytes))
        self._make_room()

    def _resize(self, key: Files, size_bytes: int) -> None:
        size_bytes = max(size_bytes, _LEAST_BYTES)
        self._size_bytes += size_bytes - self._sizes.get(key, 0)
        self._sizes[key] = size_bytes

    def _make_room(self) -> None:
        while len(self._loading) > 1 and self._size_bytes > self._max_bytes:
            key, _ = self._loading.popitem(last=False)
            self._size_bytes -= self._sizes.pop(key)

    async def _load(self, summary: ModelFacts) -> TextModel:
        files = await self._read(summary)
        tokenizer = await Tokenizer.load(files.tokenizer_json, self._service)
        self._note_size(files_of(summary), tokenizer.facts.vocabulary.size_bytes)
        return TextModel(tokenizer, files.chat_template, files.special_tokens)

    async def _read(self, summary: ModelFacts) -> TokenizerFiles:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                return await self._files.read(summary)
        except TimeoutError as exc:
            cause = f"no answer within {READ_TIMEOUT_S:g} s"
            raise _unreadable(cause) from exc
        except ObjectStoreError as exc:
            raise _unreadable(str(exc)) from exc


def _unreadable(cause: str) -> NotServed:
    message = f"the model's tokenizer cannot be read now: {cause}"
    return NotServed(message, Reason.OBJECT_STORE_UNAVAILABLE)


def files_of(summary: ModelFacts) -> Files:
    """What makes a tokenizer that of a model; models may share one."""
    return tuple(sorted((name, digest) for name, (digest, _) in summary.tokenizer_files.items()))


def size_bytes_of(summary: ModelFacts) -> int:
    """Of its files; in memory a model takes about as much, its vocabulary included."""
    return sum(size_bytes for _, size_bytes in summary.tokenizer_files.values())


def has_failed(task: "asyncio.Task[TextModel]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
