"""Rotary settings, as transformers 5 nests them or as earlier versions spread them."""

from libs.common.modelconfig.config import Llama3Scaling, RopeConfig
from libs.common.modelconfig.fields import ConfigFields

_DEFAULT_THETA = 10_000.0
_MAX_CONTEXT = 1 << 24


def read_rope(fields: ConfigFields) -> RopeConfig:
    """Raises ModelConfigError."""
    theta = fields.number("rope_theta", _DEFAULT_THETA)
    nested = fields.section("rope_parameters") or fields.section("rope_scaling")
    if nested is None:
        return RopeConfig(theta)
    theta = nested.number("rope_theta", theta)
    kind = nested.text("rope_type", None) or nested.text("type", "default")
    nested.require_only("type", kind)
    nested.require_only("partial_rotary_factor", 1.0)
    rope = _rope_of_kind(kind, theta, nested)
    nested.require_all_read()
    return rope


def _rope_of_kind(kind: str | None, theta: float, nested: ConfigFields) -> RopeConfig:
    if kind == "default":
        return RopeConfig(theta)
    if kind == "linear":
        return RopeConfig(theta, linear_factor=nested.number("factor"))
    if kind == "llama3":
        return RopeConfig(theta, llama3=_llama3(nested))
    raise nested.error("rope_type", f"{kind!r} is not supported")


def _llama3(nested: ConfigFields) -> Llama3Scaling:
    scaling = Llama3Scaling(
        factor=nested.number("factor"),
        low_freq_factor=nested.number("low_freq_factor"),
        high_freq_factor=nested.number("high_freq_factor"),
        original_max_tokens=nested.size("original_max_position_embeddings", maximum=_MAX_CONTEXT),
    )
    if scaling.low_freq_factor >= scaling.high_freq_factor:
        raise nested.error("low_freq_factor", "is not below high_freq_factor")
    return scaling
