"""Runs in its own process, by path, isolated (`python -I`): tokenizes prompts for the gateway.

Loading a tokenizer holds Python's lock for tenths of a second, large prompts take seconds and
hundreds of megabytes, and a tokenizer.json is a stranger's file. Here none of it stops a stream.

A request is a line of JSON and a body: `load` comes with a tokenizer.json, `encode` with a text.
So is a reply: a vocabulary, or token ids.
"""

import json
import os
import sys
import time
from array import array
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tokenizers import Tokenizer as LibraryTokenizer

from libs.common.errors import TokenizerRefused
from libs.common.tokenizers.prompt_bound import prompt_bound
from libs.common.tokenizers.vetting import is_vetted, refuse_harmful
from services.gateway.children.serving import limit_process, serve
from services.gateway.text.control_token_guard import ControlTokenGuard
from services.gateway.text.vocabulary import NO_PIECE

_CPU_S = 3  # per request, and
_CPU_S_PER_MIB = 2
_NICENESS = 5  # streams come first
_MAX_CAUSE_CHARS = 200
_LARGE_BYTES = 2**20  # where it panics with more, that was too much


@dataclass(frozen=True)
class _Loaded:
    library: LibraryTokenizer
    size_bytes: int


class TokenizerServer:
    """Answers requests; keeps tokenizers of so many bytes, those that were asked for last."""

    def __init__(self, max_kept_bytes: int, *, vetted_only: bool) -> None:
        self._max_kept_bytes, self._vetted_only = max_kept_bytes, vetted_only
        self._kept: OrderedDict[str, _Loaded] = OrderedDict()

    def answer(self, request: bytes) -> bytes:
        header, _, body = request.partition(b"\n")
        call = json.loads(header)
        try:
            return (
                self._load(call["key"], body) if call["do"] == "load" else self._encode(call, body)
            )
        except TokenizerRefused as exc:
            return _reply({"cause": f"it is refused: {exc}"})
        except Exception as exc:
            return _reply({"cause": str(exc)[:_MAX_CAUSE_CHARS]})
        except BaseException as exc:
            # A Rust panic; pyo3 derives it from BaseException.
            if type(exc).__name__ != "PanicException":
                raise
            return _reply({"cause": "it panicked", "is_overrun": len(body) > _LARGE_BYTES})

    def _load(self, key: str, data: bytes) -> bytes:
        values = json.loads(data)
        if not isinstance(values, dict):
            raise TokenizerRefused("it is not an object")
        refuse_harmful(values)
        if self._vetted_only and not is_vetted(values):
            return _reply({"is_vetted": False})
        bound = prompt_bound(values)
        facts = {
            "decoder": values.get("decoder"),
            "bound": None if bound is None else asdict(bound),
        }
        del values
        library = LibraryTokenizer.from_str(data.decode())
        library.no_truncation()
        library.no_padding()
        self._keep(key, _Loaded(library, len(data)))
        return _vocabulary(library, facts)

    def _keep(self, key: str, loaded: _Loaded) -> None:
        self._kept[key] = loaded
        self._kept.move_to_end(key)
        while len(self._kept) > 1 and self._kept_bytes() > self._max_kept_bytes:
            self._kept.popitem(last=False)

    def _kept_bytes(self) -> int:
        return sum(each.size_bytes for each in self._kept.values())

    def _encode(self, call: Mapping[str, Any], body: bytes) -> bytes:
        loaded = self._kept.get(call["key"])
        if loaded is None:
            return _reply({"is_loaded": False})
        began_s = time.process_time()
        self._kept.move_to_end(call["key"])
        guard = None if call["guard"] is None else ControlTokenGuard.of_values(call["guard"])
        ids = array("I")
        for part in _encoded(loaded.library, body.decode(), guard):
            ids.extend(part)
        return _reply({"cpu_s": time.process_time() - began_s}, ids.tobytes())


def _encoded(
    library: LibraryTokenizer, text: str, guard: ControlTokenGuard | None
) -> list[list[int]]:
    if guard is None:
        return _batch(library, [text])
    pieces = list(guard.pieces(text))
    plain = iter(_batch(library, [piece.text for piece in pieces if not piece.is_quoted]))
    library.encode_special_tokens = True
    try:
        quoted = iter(_batch(library, [piece.text for piece in pieces if piece.is_quoted]))
    finally:
        library.encode_special_tokens = False
    return [next(quoted if piece.is_quoted else plain) for piece in pieces]


def _batch(library: LibraryTokenizer, texts: list[str]) -> list[list[int]]:
    """Without offsets, which nobody reads."""
    encodings = library.encode_batch_fast(texts, add_special_tokens=False)
    return [encoding.ids for encoding in encodings]


def _vocabulary(library: LibraryTokenizer, facts: dict[str, Any]) -> bytes:
    """All pieces by their ids: the ends of each in bytes, then the pieces. Ids may be missing."""
    added = library.get_added_tokens_decoder()
    num_ids = 1 + max(library.get_vocab(with_added_tokens=True).values(), default=-1)
    ends, pieces = array("I"), bytearray()
    for token_id in range(num_ids):
        piece = library.id_to_token(token_id)
        pieces += NO_PIECE if piece is None else piece.encode()
        ends.append(len(pieces))
    specials = {
        token_id: token.content
        for token_id, token in added.items()
        if token.special and token.content
    }
    header = {
        **facts,
        "num_ids": num_ids,
        "special_ids": list(specials),
        "special_texts": list(specials.values()),
        "prefix_ids": _prefix_ids(library),
    }
    return _reply(header, ends.tobytes() + pieces)


def _prefix_ids(library: LibraryTokenizer) -> list[int]:
    """What comes before any text: most put one token there, or none. What they put after it would
    be an end, which a prompt has not reached."""
    try:
        plain, whole = (
            library.encode("a", add_special_tokens=special).ids for special in (False, True)
        )
    except Exception:  # it has no token for this letter: then nobody can tell
        return []
    starts = range(len(whole) - len(plain) + 1)
    found = next((at for at in starts if whole[at : at + len(plain)] == plain), 0)
    return whole[:found]


def _reply(header: dict[str, Any], body: bytes = b"") -> bytes:
    return json.dumps(header).encode() + b"\n" + body


def cpu_s(num_bytes: int) -> int:
    return _CPU_S + _CPU_S_PER_MIB * (num_bytes >> 20)


if __name__ == "__main__":
    os.nice(_NICENESS)
    max_kept_bytes, max_memory_bytes, vetted_only = map(int, sys.argv[1:])
    limit_process(max_memory_bytes)
    serve(TokenizerServer(max_kept_bytes, vetted_only=bool(vetted_only)).answer, cpu_s)
