"""The files that a model needs beside its weights: tokenizer, chat template, special tokens."""

from dataclasses import dataclass

from libs.common.errors import TokenizerRefused
from libs.common.strict_json import JsonFieldError, JsonObject, canonical_bytes
from libs.common.tokenizers.vetting import refuse_harmful
from services.fetcher.errors import ImportRefused
from services.fetcher.imports.checkpoint import MAX_CONFIG_BYTES, parse_json, read_json
from services.fetcher.imports.source import SourceFolder

MAX_TOKENIZER_BYTES = 64 << 20
MAX_TEMPLATE_BYTES = 1 << 20
MAX_TOKENIZER_CONFIG_BYTES = 8 << 20

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
GENERATION_CONFIG = "generation_config.json"


@dataclass(frozen=True)
class TokenizerFiles:
    files: dict[str, bytes]  # name → content, as it will be stored
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]


def read_tokenizer_files(
    folder: SourceFolder, config: JsonObject, vocab_size: int
) -> TokenizerFiles:
    """Raises ImportRefused."""
    tokenizer = folder.open_if_present(TOKENIZER)
    if tokenizer is None:
        raise ImportRefused(
            "tokenizer_missing",
            f"the folder holds no {TOKENIZER}; save the tokenizer in its fast form",
        )
    files = {TOKENIZER: tokenizer.read_small(MAX_TOKENIZER_BYTES)}
    _check_tokenizer(parse_json(TOKENIZER, files[TOKENIZER]))
    settings = _optional_json(folder, TOKENIZER_CONFIG, MAX_TOKENIZER_CONFIG_BYTES)
    if settings is not None:
        files[TOKENIZER_CONFIG] = canonical_bytes(settings.values)
    template = _chat_template(folder, settings)
    if template is not None:
        files[CHAT_TEMPLATE] = template
    generation = _optional_json(folder, GENERATION_CONFIG, MAX_CONFIG_BYTES)
    sources = [source for source in (generation, config) if source is not None]
    return TokenizerFiles(files, _bos(sources, vocab_size), _eos(sources, vocab_size))


def _check_tokenizer(parsed: JsonObject) -> None:
    try:
        refuse_harmful(parsed.values)
    except TokenizerRefused as exc:
        raise ImportRefused("bad_tokenizer", f"{TOKENIZER} cannot be served: {exc}") from exc


def _optional_json(folder: SourceFolder, name: str, max_bytes: int) -> JsonObject | None:
    if folder.open_if_present(name) is None:
        return None
    return read_json(folder, name, max_bytes)


def _chat_template(folder: SourceFolder, settings: JsonObject | None) -> bytes | None:
    """The file, or the default one of those that tokenizer_config.json holds."""
    file = folder.open_if_present(CHAT_TEMPLATE)
    if file is not None:
        return file.read_small(MAX_TEMPLATE_BYTES)
    if settings is None or not settings.has("chat_template"):
        return None
    try:
        if isinstance(settings.values["chat_template"], str):
            return settings.text("chat_template", max_length=MAX_TEMPLATE_BYTES).encode()
        return _default_template(settings)
    except JsonFieldError as exc:
        raise ImportRefused("bad_chat_template", f"{TOKENIZER_CONFIG}: {exc}") from exc


def _default_template(settings: JsonObject) -> bytes | None:
    for named in settings.children("chat_template", max_items=64):
        if named.text("name") == "default":
            return named.text("template", max_length=MAX_TEMPLATE_BYTES).encode()
    return None


def _bos(sources: list[JsonObject], vocab_size: int) -> int | None:
    for source in sources:
        if source.has("bos_token_id"):
            return _token_id(source, "bos_token_id", vocab_size)
    return None


def _eos(sources: list[JsonObject], vocab_size: int) -> tuple[int, ...]:
    """All that either file names: a model may end its turn and its text with different tokens."""
    found: list[int] = []
    for source in sources:
        if source.has("eos_token_id"):
            is_list = isinstance(source.values["eos_token_id"], list)
            found += (
                _token_ids(source, "eos_token_id", vocab_size)
                if is_list
                else [_token_id(source, "eos_token_id", vocab_size)]
            )
    return tuple(dict.fromkeys(found))


def _token_id(source: JsonObject, key: str, vocab_size: int) -> int:
    try:
        return source.integer(key, maximum=vocab_size - 1)
    except JsonFieldError as exc:
        raise ImportRefused("bad_config", str(exc)) from exc


def _token_ids(source: JsonObject, key: str, vocab_size: int) -> list[int]:
    try:
        ids = source.integers(key, max_items=64)
    except JsonFieldError as exc:
        raise ImportRefused("bad_config", str(exc)) from exc
    if any(token >= vocab_size for token in ids):
        raise ImportRefused("bad_config", f"{key} names a token beyond the vocabulary")
    return list(ids)
