"""Small checkpoints made on the spot: random Llama weights and a byte-level tokenizer."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

_SPECIAL = ("<|end|>", "<|user|>", "<|assistant|>", "<|system|>")
CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_tokenizer(vocab_size: int = 0) -> Tokenizer:
    """One token per byte, then the special ones: every id decodes, nothing needs training.

    Words that no text is made of fill it up to `vocab_size`.
    """
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    symbols += [f"word{i}" for i in range(vocab_size - len(symbols) - len(_SPECIAL))]
    vocabulary = {symbol: index for index, symbol in enumerate(symbols)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(_SPECIAL))
    return tokenizer


def make_tiny_llama(
    folder: Path,
    *,
    seed: int = 0,
    num_layers: int = 3,
    hidden_size: int = 64,
    max_context_tokens: int = 4096,
    dtype: torch.dtype = torch.float32,
    chat_template: str = CHAT_TEMPLATE,
    is_endless: bool = False,
) -> Path:
    """A checkpoint folder as transformers saves it. Weights are spread wide (0.4), so that the
    two most likely tokens of a step rarely lie within rounding of each other.

    An endless one knows no end token, so that every answer has exactly `max_tokens`; of the others
    half end a drawn answer before its 80th token.
    """
    tokenizer = byte_tokenizer()
    end_id = None if is_endless else tokenizer.token_to_id("<|end|>")
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=max_context_tokens,
        initializer_range=0.4,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end_id,
        pad_token_id=None,
    )
    torch.manual_seed(seed)
    model: torch.nn.Module = LlamaForCausalLM(config)
    model.to(dtype).save_pretrained(folder)  # type: ignore[operator]  # a mixin's method
    save_tokenizer(tokenizer, folder, chat_template)
    return folder


def save_tokenizer(tokenizer: Tokenizer, folder: Path, chat_template: str = CHAT_TEMPLATE) -> None:
    """As transformers lays it down in a checkpoint's folder."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"chat_template": chat_template, "eos_token": "<|end|>", "bos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
