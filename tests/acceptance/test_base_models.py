"""A base model, whose checkpoint has no chat template: completions, and chats once it is given one.

OPT is one of those that ship none, and its tokenizer puts a token before every text.
"""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
import pytest_asyncio
import torch
from tokenizers.processors import TemplateProcessing
from transformers import OPTConfig, OPTForCausalLM

from deploy.local.stack import LocalStack
from tests.acceptance.client import Client
from tests.acceptance.observing import settled
from tests.support.checkpoints import byte_tokenizer
from tests.support.failures import require_same_tokens

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEMPLATE = "{% for m in messages %}Q: {{ m.content }}\nA:{% endfor %}"
START = "<|system|>"  # what this tokenizer puts before a text


def make_tiny_opt(folder: Path) -> Path:
    tokenizer = byte_tokenizer()
    start_id = tokenizer.token_to_id(START)
    tokenizer.post_processor = TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, start_id)]
    )
    config = OPTConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        ffn_dim=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        word_embed_proj_dim=64,
        init_std=0.4,
        bos_token_id=start_id,
        eos_token_id=None,
        pad_token_id=None,
    )
    torch.manual_seed(51)
    model: torch.nn.Module = OPTForCausalLM(config)
    model.float().save_pretrained(folder)  # type: ignore[operator]  # a mixin's method
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": START}))
    return folder


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def model(client: Client, stack: LocalStack, sources: Path) -> AsyncIterator[str]:
    await client.ready("opt", str(make_tiny_opt(sources / "opt")), keep_alive_s=60)
    yield "opt"
    await client.delete("opt")
    await settled(stack, client)


async def test_it_completes_texts_and_ids_alike_streamed_or_whole(
    stack: LocalStack, model: str
) -> None:
    tokenizer = byte_tokenizer()
    start_id = tokenizer.token_to_id(START)
    assert start_id is not None
    ids = [start_id, *tokenizer.encode("Once", add_special_tokens=False).ids]
    options: dict[str, Any] = {"model": model, "max_tokens": 12, "temperature": 0}
    async with openai.AsyncOpenAI(
        api_key=stack.api_key, base_url=stack.gateway_url + "/v1"
    ) as official:
        of_text = await official.completions.create(prompt="Once", logprobs=2, **options)
        of_both = await official.completions.create(prompt=[ids, ids], **options)
        stream = await official.completions.create(prompt=ids, stream=True, **options)
        assert isinstance(stream, openai.AsyncStream)
        streamed = "".join([chunk.choices[0].text async for chunk in stream])

    text = of_text.choices[0].text
    for other in (of_both.choices[0].text, of_both.choices[1].text, streamed):
        require_same_tokens(other, text)
    assert of_text.usage is not None and of_text.usage.prompt_tokens == len(ids)
    logprobs = of_text.choices[0].logprobs
    assert logprobs is not None and len(logprobs.tokens or ()) == 12


async def test_it_cannot_chat_until_it_is_given_a_template(
    client: Client, stack: LocalStack, model: str
) -> None:
    parameters = {"max_tokens": 12, "temperature": 0}
    refused = await client.chat(model, "hello", **parameters)
    given = await client.http.patch(f"/api/v1/models/{model}", json={"chat_template": TEMPLATE})
    chat = await client.chat(model, "hello", **parameters)
    prompt = {"prompt": "Q: hello\nA:", "add_special_tokens": False}
    same = await client.http.post("/v1/completions", json={"model": model, **prompt, **parameters})

    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "no_chat_template")
    assert given.status_code == 200, given.text
    content = chat.json()["choices"][0]["message"]["content"]
    require_same_tokens(content, same.json()["choices"][0]["text"])
