"""The demo's model as transformers runs it: what the stack's answers are measured against."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.convert_slow_tokenizer import bytes_to_unicode

from deploy.local.state.locks import exclusive_lock


@dataclass(frozen=True)
class Greedy:
    token_ids: list[int]
    logits: torch.Tensor  # [tokens, vocabulary]: row i decided token i


def converted(gguf: Path, cache: Path) -> Path:
    """The file's weights as a float32 checkpoint folder; made once, in 10 s of a core."""
    folder = cache / f"{gguf.stem}-float32-transformers-{transformers.__version__}"
    cache.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(cache / ".lock"):
        if not folder.exists():
            unfinished = cache / ".unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            _convert(gguf, unfinished)
            unfinished.rename(folder)
    return folder


def _convert(gguf: Path, folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


class Reference:
    """All of it runs one sequence at a time: a batch's padding would be one more difference."""

    def __init__(
        self, checkpoint: Path, dtype: torch.dtype, *, weights_like: torch.dtype | None = None
    ) -> None:
        """Computes in `dtype`, with weights rounded to `weights_like` before."""
        self._tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
        self.model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=dtype)
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(weights_like or dtype).to(dtype)
        self.end_id: int = self.model.generation_config.eos_token_id
        to_unicode: dict[int, str] = bytes_to_unicode()  # type: ignore[no-untyped-call]  # transformers'
        byte_of = {character: byte for byte, character in to_unicode.items()}
        self._id_of_bytes = {
            bytes(byte_of[character] for character in token): token_id
            for token, token_id in self._tokenizer.get_vocab().items()
        }

    def save(self, folder: Path) -> Path:
        """As a checkpoint in the reference's own dtype."""
        self.model.save_pretrained(folder)
        self._tokenizer.save_pretrained(folder)
        return folder

    def prompt_ids(self, question: str) -> list[int]:
        messages = [{"role": "user", "content": question}]
        encoded = self._tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_dict=True
        )
        ids: list[int] = encoded["input_ids"]
        return ids

    def token_id(self, token: bytes) -> int:
        return self._id_of_bytes[token]

    @torch.inference_mode()
    def greedy(self, question: str, num_tokens: int) -> Greedy:
        """What `generate` says, with the end token where it ends by itself."""
        prompt_ids = self.prompt_ids(question)
        output = self.model.generate(
            torch.tensor([prompt_ids]),
            max_new_tokens=num_tokens,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        logits = torch.cat(output.logits).to(self.model.dtype)  # `generate` widens them
        return Greedy(output.sequences[0, len(prompt_ids) :].tolist(), logits)

    @torch.inference_mode()
    def logits_along(self, question: str, token_ids: Sequence[int]) -> torch.Tensor:
        """`[tokens, vocabulary]`: row i follows the prompt and the tokens before i.

        One pass over all of them: where each token is its row's best, they are the greedy answer,
        at a fraction of the time it takes to generate it.
        """
        prompt_ids = self.prompt_ids(question)
        inputs = torch.tensor([[*prompt_ids, *token_ids[:-1]]])
        logits: torch.Tensor = self.model(inputs, logits_to_keep=len(token_ids)).logits[0]
        return logits
