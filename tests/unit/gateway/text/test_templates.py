"""Chat templates: rendered as the Hugging Face hub means them, and harmless when hostile."""

import asyncio
import string
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from services.gateway.errors import PromptTooLong, TemplateFailed
from services.gateway.text.template_pool import PromptLimit, TemplatePool
from tests.support.reference import measure_s
from tests.unit.gateway.tiny import TENANT

# The template that SmolLM2-135M-Instruct carries.
SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LENIENT = PromptLimit(100, string.ascii_lowercase)
VARIABLES: dict[str, Any] = {
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "add_generation_prompt": True,
    "bos_token": "<s>",
    "eos_token": "</s>",
}


async def rendered(pool: TemplatePool, template: str, variables: dict[str, Any] = VARIABLES) -> str:
    return (await pool.render(template, variables, TENANT)).text


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[TemplatePool]:
    async with TemplatePool(1) as opened:
        yield opened


async def test_smollm2s_template_writes_the_prompt_it_was_trained_on(pool: TemplatePool) -> None:
    assert await rendered(pool, SMOLLM2) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(
    ("template", "text", "why"),
    [
        ("{{ bos_token }}x{{ eos_token }}", "<s>x</s>", "special tokens are variables"),
        ("a\n  {% if true %}\nb\n  {% endif %}\nc", "a\nb\nc", "blocks are trimmed on both sides"),
        ("{{ {'a': 'é<'} | tojson }}", '{"a": "é<"}', "JSON without HTML escapes"),
        ("{% generation %}x{% endgeneration %}", "x", "training marks are see-through"),
        ("{{ strftime_now('%Y') | length }}", "4", "the date is at hand"),
        (
            "{% for i in range(9) %}{% if i > 1 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "01",
            "",
        ),
        ("{{ missing }}|{{ missing is defined }}", "|False", "what is not defined is empty"),
    ],
)
async def test_templates_may_use_what_the_hub_offers(
    pool: TemplatePool, template: str, text: str, why: str
) -> None:
    assert await rendered(pool, template) == text, why


@pytest.mark.parametrize(
    ("template", "cause"),
    [
        ("{{ raise_exception('no system role here') }}", "no system role here"),
        ("{% if %}", "syntax error in line 1"),
        ("{{ 'a' * 10**9 }}", "memory"),
        ("{{ '%1000000000d' % 1 }}", "memory"),
        ("{{ 'a' | center(1000000000) }}", "memory"),
        (
            "{% set ns = namespace(x='aaaaaaaaaa') %}{% for i in range(60) %}"
            "{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x }}",
            "memory",
        ),
        ("{% for i in range(99999) %}{{ 'a' * 100 }}{% endfor %}", "output"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "recursed"),
        ("{{ ''.__class__.__mro__ }}", "forbidden"),
        ("{{ cycler.__init__.__globals__ }}", "forbidden"),
        ("{{ messages.append(1) }}", "forbidden"),
        ("{% include '/etc/passwd' %}", "loader"),
        ("{% import 'os' as os %}", "loader"),
    ],
)
async def test_a_hostile_or_broken_template_fails_with_its_cause(
    pool: TemplatePool, template: str, cause: str
) -> None:
    with pytest.raises(TemplateFailed, match=cause):
        await rendered(pool, template)

    assert await rendered(pool, "{{ 1 + 1 }}", {}) == "2", "the next render works"


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception.__globals__ }}",
        "{{ ''.format.__self__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{{ messages.__class__ }}",
    ],
)
async def test_python_internals_are_as_if_they_were_not_there(
    pool: TemplatePool, template: str
) -> None:
    assert await rendered(pool, template) == ""


async def test_a_template_that_never_ends_is_killed_and_its_process_replaced(
    pool: TemplatePool,
) -> None:
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"

    with pytest.raises(TemplateFailed, match=r"CPU time|longer than"):
        await rendered(pool, endless)

    assert await rendered(pool, SMOLLM2)


async def test_a_warm_render_does_not_pay_for_a_process(pool: TemplatePool) -> None:
    await rendered(pool, SMOLLM2)

    began_s = time.perf_counter()
    for _ in range(50):
        await rendered(pool, SMOLLM2)

    assert (time.perf_counter() - began_s) / 50 < measure_s() / 3


async def test_a_conversation_as_long_as_a_body_may_be_is_rendered(pool: TemplatePool) -> None:
    long = {**VARIABLES, "messages": [{"role": "user", "content": "é" * 2**22}]}

    assert "é" * 2**22 in await rendered(pool, SMOLLM2, long)


async def test_what_no_context_could_hold_is_not_rendered_to_its_end(pool: TemplatePool) -> None:
    with pytest.raises(PromptTooLong):
        await pool.render(SMOLLM2, VARIABLES, TENANT, limit=PromptLimit(100, ""))

    assert (await pool.render(SMOLLM2, VARIABLES, TENANT, limit=LENIENT)).text


async def test_what_quotes_a_clients_special_tokens_does_not_count(pool: TemplatePool) -> None:
    """It is taken away before the prompt is tokenized."""
    variables = {"messages": [{"role": "user", "content": "<s>" * 30}]}
    template = "{{ messages[0].content }}"

    prompt = await pool.render(
        template, variables, TENANT, specials=("<s>",), limit=PromptLimit(90, "")
    )

    assert len(prompt.text) == 150
    with pytest.raises(PromptTooLong):
        await pool.render(template, variables, TENANT, specials=("<s>",), limit=PromptLimit(89, ""))


async def test_more_requests_of_a_tenant_than_any_queue_of_ours_are_all_rendered(
    pool: TemplatePool,
) -> None:
    """How many may wait is for the model's queue and the limits of open requests to say."""
    renders = [rendered(pool, "{{ 1 }}", {}) for _ in range(600)]

    assert await asyncio.gather(*renders) == ["1"] * 600
