"""The real model through the whole stack says what transformers says, token for token.

Both compute in bf16 with different kernels, so a text is compared up to its first near tie
(`tests/support/equality.py` says which those are); the number of ties is printed and bounded.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from deploy.local.demo_model import FILE_NAME, ensure_demo_model
from deploy.local.stack import LocalStack
from deploy.local.statefolder import StateFolder
from tests.acceptance.client import Client
from tests.acceptance.observing import settled
from tests.support.equality import TokenEquality, is_greedy_near_tie

pytestmark = [
    pytest.mark.long,  # the reference alone takes minutes on two cores
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(900),
]

NUM_TOKENS = 24
PROMPTS = (
    "What is the capital of France?",
    "Name three primary colours.",
    "What is 2 + 2?",
    "Write a haiku about the sea.",
    "Who wrote Romeo and Juliet?",
    "Explain photosynthesis in one sentence.",
    "Translate 'good morning' into Spanish.",
    "What is the boiling point of water?",
    "List the days of the week.",
    "Why is the sky blue?",
    "Give me a recipe for pancakes.",
    "What does a compiler do?",
    "Tell me a fact about whales.",
    "How many legs does a spider have?",
    "What is the largest planet?",
    "Finish the sentence: once upon a time",
    "What is gravity?",
    "Suggest a name for a cat.",
    "How do vaccines work?",
    "What is the opposite of hot?",
)


@dataclass(frozen=True)
class Reference:
    token_ids: list[int]
    logits: list[torch.Tensor]  # per generated token: [vocabulary], bf16


@pytest.fixture(scope="module")
def gguf(sources: Path) -> Path:
    """The demo model beneath the import root; fetched already by `make test`."""
    kept = ensure_demo_model(StateFolder.from_environment().sources)
    path = sources / FILE_NAME
    path.hardlink_to(kept) if kept.stat().st_dev == sources.stat().st_dev else path.write_bytes(
        kept.read_bytes()
    )
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model(client: Client, stack: LocalStack, gguf: Path) -> AsyncIterator[str]:
    await client.register("smollm2", str(gguf), keep_alive_s=20)
    yield "smollm2"
    await client.delete("smollm2")
    await settled(stack, client, timeout_s=60)


@pytest.fixture(scope="module")
def references(gguf: Path) -> list[Reference]:
    with torch.inference_mode():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        return [generate(model, tokenizer, prompt) for prompt in PROMPTS]


def generate(model: torch.nn.Module, tokenizer: object, prompt: str) -> Reference:
    messages = [{"role": "user", "content": prompt}]
    inputs = tokenizer.apply_chat_template(  # type: ignore[attr-defined]  # transformers' own type
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(  # type: ignore[operator]  # a mixin's method
        **inputs,
        max_new_tokens=NUM_TOKENS,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
    )
    ids = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    return Reference(ids, [step[0].to(torch.bfloat16) for step in output.logits])


async def test_twenty_prompts_give_transformers_tokens(
    client: Client, model: str, references: list[Reference]
) -> None:
    assert (await client.imported(model, timeout_s=300))["state"] == "READY"
    answers = await asyncio.gather(
        *(client.stream(model, p, max_tokens=NUM_TOKENS, temperature=0) for p in PROMPTS)
    )
    exported = (await client.get(f"/api/v1/models/{model}"))["dtype"]
    assert exported in ("bf16", "bfloat16", "BF16")

    tokenizer = reference_tokenizer()
    equality = TokenEquality()
    for prompt, answer, reference in zip(PROMPTS, answers, references, strict=True):
        assert answer.is_complete, answer
        compare(equality, prompt, answer.text, reference, tokenizer)
    print(f"\n{equality}: {equality.ties}")
    equality.check()
    assert "Paris" in answers[0].text


def reference_tokenizer() -> Tokenizer:
    folder = StateFolder.from_environment().sources
    fast = AutoTokenizer.from_pretrained(folder, gguf_file=FILE_NAME)
    backend: Tokenizer = fast.backend_tokenizer
    return backend


def compare(
    equality: TokenEquality, prompt: str, text: str, reference: Reference, tokenizer: Tokenizer
) -> None:
    """The stack gives text; it parts from the reference at the first token that does not fit."""
    ids = reference.token_ids

    def fits(count: int) -> bool:
        return text.startswith(tokenizer.decode(ids[:count]).rstrip("\ufffd"))

    count = next((k for k in range(1, len(ids) + 1) if not fits(k)), len(ids) + 1) - 1
    actual = ids if count == len(ids) and text == tokenizer.decode(ids) else [*ids[:count], -1]
    equality.compare(
        prompt,
        actual,
        ids,
        lambda index: is_greedy_near_tie(reference.logits[min(index, len(ids) - 1)]),
    )
