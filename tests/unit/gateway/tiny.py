"""A tiny model: one token per byte and two special ones, a ChatML template, files and a row."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from blake3 import blake3
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from libs.common.bus.messages import ModelSummary
from libs.common.states import EngineChoice, ModelState
from libs.common.testing.objectstore import MemoryObjectStore
from libs.common.weights.manifest import tokenizer_key
from services.gateway.store.model_entry import ModelEntry

TENANT = "acme"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{{ message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def byte_tokenizer() -> Tokenizer:
    """One token per byte, and the special tokens of ChatML."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: index for index, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True) for text in ("<|im_start|>", "<|im_end|>")]
    )
    return tokenizer


TOKENIZER = byte_tokenizer()


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False).ids)


END_ID = ids_of("<|im_end|>")[0]


def summary_of(files: dict[str, bytes], max_context_tokens: int = 4096) -> ModelSummary:
    return ModelSummary(
        architecture="llama",
        dtype="bfloat16",
        num_layers=2,
        vocab_size=TOKENIZER.get_vocab_size(),
        max_context_tokens=max_context_tokens,
        kv_bytes_per_token=64,
        weight_bytes=1000,
        eos_token_ids=(END_ID,),
        units=(),
        tokenizer_files={n: (blake3(d).hexdigest(), len(d)) for n, d in files.items()},
    )


def tokenizer_files(template: str = CHAT_TEMPLATE) -> dict[str, bytes]:
    return {
        "tokenizer.json": TOKENIZER.to_str().encode(),
        "tokenizer_config.json": b'{"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}',
        "chat_template.jinja": template.encode(),
    }


async def objects_with(files: dict[str, bytes]) -> MemoryObjectStore:
    objects = MemoryObjectStore()
    for data in files.values():
        digest = blake3(data).hexdigest()
        await objects.put_bytes(tokenizer_key(digest), data, digest=digest)
    return objects


def model_entry(name: str = "tiny", **changes: Any) -> ModelEntry:
    entry = ModelEntry(
        model_id=f"model-{name}",
        tenant=TENANT,
        name=name,
        source="/models/tiny",
        state=ModelState.READY,
        cause=None,
        is_public=False,
        slo_ttft_ms=10_000,
        slo_tpot_ms=1_000,
        keep_alive_s=60,
        min_pipeline_size=1,
        max_pipeline_size=4,
        max_queue=10,
        max_slots=4,
        max_endpoints=2,
        max_context_tokens=None,
        kv_cache_bytes=None,
        engine=EngineChoice.AUTO,
        chat_template_digest=None,
        bytes_done=0,
        bytes_total=0,
        backoff_until=None,
        manifest_digest=None,
        created_at=NOW,
        updated_at=NOW,
        summary=summary_of(tokenizer_files()),
    )
    return replace(entry, **changes)
