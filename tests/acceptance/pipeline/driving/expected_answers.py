"""What a model says when nothing disturbs it: its greedy answers, computed by transformers alone.

Batches of other sizes round differently, so a prompt is used only when each token of its answer is
decided by more than rounding. Then every answer of the stack must be exactly this one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tests.support.checkpoints import byte_tokenizer

DECIDED_GAP = 1e-3  # between the two best logits; ten times what counts as a near tie in fp32
_BATCH = 4


@dataclass(frozen=True)
class ExpectedAnswer:
    """One prompt and the beginning of its answer, which goes on after it."""

    prompt: str
    token_ids: tuple[int, ...]

    def text(self, num_tokens: int) -> str:
        assert num_tokens <= len(self.token_ids), "not known that far"
        decoded: str = byte_tokenizer().decode(self.token_ids[:num_tokens])
        return decoded


def expected_answers(folder: Path, num_prompts: int, num_tokens: int) -> tuple[ExpectedAnswer, ...]:
    """Answers of so many tokens to the first prompts for which all of them are decided.

    `folder` holds an endless checkpoint of `make_tiny_llama`.
    """
    return tuple(islice(_decided(folder, num_tokens), num_prompts))


def _decided(folder: Path, num_tokens: int) -> Iterator[ExpectedAnswer]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for start in count(step=_BATCH):
        prompts = [f"prompt {number:04}" for number in range(start, start + _BATCH)]
        ids, gaps = _generate(model, prompts, num_tokens)
        for prompt, token_ids, gap in zip(prompts, ids.tolist(), gaps, strict=True):
            if gap > DECIDED_GAP:
                yield ExpectedAnswer(prompt, tuple(token_ids))


@torch.inference_mode()
def _generate(
    model: torch.nn.Module, prompts: list[str], num_tokens: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [prompts, tokens], and [prompts] the least gap between two best logits.

    All prompts have the same length.
    """
    chats = [f"<|user|>{prompt}<|end|><|assistant|>" for prompt in prompts]
    prompt_ids = torch.tensor([chat.ids for chat in byte_tokenizer().encode_batch(chats)])
    output = model.generate(  # type: ignore[operator]  # a mixin's method
        prompt_ids,
        attention_mask=torch.ones_like(prompt_ids),
        max_new_tokens=num_tokens,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    best = torch.stack(output.logits).topk(2).values  # [tokens, prompts, 2]
    return output.sequences[:, prompt_ids.shape[1] :], (best[..., 0] - best[..., 1]).amin(0)
