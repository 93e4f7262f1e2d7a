"""How families name their tensors in a checkpoint. The defaults are Llama's."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorNames:
    """Modules without `.weight` and `.bias`; those of a layer count from its prefix.

    A norm that stands before its branch and one that stands after it have their own names; a model
    has those that its placement of norms says.
    """

    embedding: str = "model.embed_tokens"
    positions: str = ""
    embedding_projection: str = ""
    layer: str = "model.layers.{}."
    attention_norm: str = "input_layernorm"
    attention_output_norm: str = ""
    query: str = "self_attn.q_proj"
    key: str = "self_attn.k_proj"
    value: str = "self_attn.v_proj"
    fused: str = ""  # query, key and value in one
    query_norm: str = "self_attn.q_norm"
    key_norm: str = "self_attn.k_norm"
    output: str = "self_attn.o_proj"
    mlp_norm: str = "post_attention_layernorm"
    mlp_output_norm: str = ""
    gate: str = "mlp.gate_proj"
    up: str = "mlp.up_proj"
    down: str = "mlp.down_proj"
    final_norm: str = "model.norm"
    final_projection: str = ""
    head: str = "lm_head"
