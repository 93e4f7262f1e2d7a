"""What all families say in the same words: sizes, heads, windows."""

from math import sqrt

from libs.common.modelconfig.config import AttentionConfig, RopeConfig
from libs.common.modelconfig.fields import ConfigFields

_MAX_LAYERS = 1024
_MAX_VOCABULARY = 1 << 22
_MAX_CONTEXT = 1 << 24

SLIDING, FULL = "sliding_attention", "full_attention"


def read_vocab_size(fields: ConfigFields) -> int:
    return fields.size("vocab_size", maximum=_MAX_VOCABULARY)


def read_num_layers(fields: ConfigFields) -> int:
    return fields.size("num_hidden_layers", maximum=_MAX_LAYERS)


def read_max_context(fields: ConfigFields, default: int | None = None) -> int:
    return fields.size("max_position_embeddings", default, maximum=_MAX_CONTEXT)


def read_window(fields: ConfigFields) -> int | None:
    """Tokens that a sliding layer sees; null says that none slides. Raises ModelConfigError."""
    if fields.is_null("sliding_window"):
        return None
    return fields.size("sliding_window", maximum=_MAX_CONTEXT)


def layer_windows(
    fields: ConfigFields, window: int | None, default_types: list[str]
) -> tuple[int | None, ...]:
    """Of each layer, by the type that the document or else the family gives it.

    Raises ModelConfigError.
    """
    given = fields.texts("layer_types")
    types = tuple(default_types) if given is None else given
    if len(types) != len(default_types):
        raise fields.error("layer_types", f"{len(types)} types for {len(default_types)} layers")
    for kind in types:
        if kind not in (SLIDING, FULL):
            raise fields.error("layer_types", f"{kind[:80]!r} is not supported")
        if kind == SLIDING and window is None:
            raise fields.error("layer_types", "a layer slides, but there is no sliding_window")
    return tuple(window if kind == SLIDING else None for kind in types)


def plain_attention(
    fields: ConfigFields,
    rope: RopeConfig | None,
    *,
    num_kv_heads: int | None = None,
    head_dim: int | None = None,
    windows: tuple[int | None, ...] | None = None,
) -> AttentionConfig:
    """Without further arguments every head has its own keys and sees everything before it.

    Raises ModelConfigError.
    """
    num_heads = fields.size("num_attention_heads")
    num_kv_heads = num_kv_heads or num_heads
    head_dim = head_dim or fields.size("hidden_size") // num_heads
    if head_dim < 1:
        raise fields.error("num_attention_heads", f"{num_heads} heads are more than hidden_size")
    if num_heads % num_kv_heads:
        reason = f"{num_kv_heads} is no divisor of num_attention_heads {num_heads}"
        raise fields.error("num_key_value_heads", reason)
    if rope is not None and head_dim % 2:
        raise fields.error("head_dim", f"{head_dim} is odd, rotary embedding needs pairs")
    return AttentionConfig(
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        score_scale=1 / sqrt(head_dim),
        windows=windows or (None,) * read_num_layers(fields),
        rope=rope,
    )


def check_heads_share_hidden(fields: ConfigFields) -> None:
    """Where the heads' size is no key of its own. Raises ModelConfigError."""
    num_heads, hidden_size = fields.size("num_attention_heads"), fields.size("hidden_size")
    if hidden_size % num_heads:
        reason = f"{num_heads} is no divisor of hidden_size {hidden_size}"
        raise fields.error("num_attention_heads", reason)


def optional_size(fields: ConfigFields, key: str) -> int | None:
    return fields.size(key) if fields.has(key) else None
