"""Runs in its own process, by path, isolated (`python -I`): renders chat templates for the gateway.

A template is a stranger's program. The sandbox keeps it from Python's internals; limits that the
kernel enforces keep it from this machine's memory and time. The service imports nothing of it.
"""

import json
import math
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from libs.common.tokenizers.prompt_bound import num_counted
from services.gateway.children.serving import limit_process, serve
from services.gateway.text.control_token_guard import ControlTokenGuard

MAX_ADDED_CHARS = 2**20  # to the messages, which a template may repeat once
MAX_MEMORY_BYTES = 256 * 2**20
CPU_S_PER_RENDER = 1  # and one more per MiB of the request
_MAX_CAUSE_CHARS = 300


class TemplateRaised(TemplateError):
    """The template itself called raise_exception."""


class OutputTooLong(Exception):
    pass


class PromptTooLong(Exception):
    pass


class GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks training targets; serving renders the body."""

    tags = {"generation"}  # noqa: RUF012 - jinja2 declares it as a plain set

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def raise_exception(message: str) -> None:
    raise TemplateRaised(message)


def strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes for HTML, which prompts must not have."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


@lru_cache(maxsize=32)
def compiled(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationTag, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    return environment.from_string(source)


def render(request: dict[str, Any], guard: ControlTokenGuard | None, max_chars: int) -> str:
    """Past `limit` of the request, and so longer than any context, it is PromptTooLong."""
    limit, uncounted = request["limit"] or (math.inf, "")
    pieces: list[str] = []
    num_chars = num_limited = 0
    for piece in compiled(request["template"]).generate(**request["variables"]):
        pieces.append(piece)
        num_limited += num_counted(piece, uncounted) - (guard.num_marks(piece) if guard else 0)
        if num_limited > limit:
            raise PromptTooLong
        num_chars += len(piece)
        if num_chars > max_chars:
            raise OutputTooLong
    return "".join(pieces)


def answer(request: bytes) -> bytes:
    """Templates may write halves of surrogate pairs."""
    header, _, contents = request.partition(b"\n")
    values = json.loads(header)
    put_contents(values["variables"].get("messages", []), contents.decode(errors="surrogatepass"))
    reply = rendered(values)
    text: str = reply.pop("text", "")
    encoded: bytes = text.encode(errors="surrogatepass")
    return json.dumps(reply).encode() + b"\n" + encoded


def put_contents(messages: list[dict[str, Any]], contents: str) -> None:
    """Large texts come without JSON's quotes: each message says how many characters are its."""
    begin = 0
    for message in messages:
        end = begin + message["content"]
        message["content"] = contents[begin:end]
        begin = end


def rendered(request: dict[str, Any]) -> dict[str, Any]:
    messages = request["variables"].get("messages", [])
    texts = [text for message in messages for text in (message["content"], message.get("name", ""))]
    try:
        guard = ControlTokenGuard.needed_for(texts, request["specials"])
    except ValueError as exc:
        return {"unquotable": str(exc)}
    if guard is not None:
        request["variables"]["messages"] = [quoted(message, guard) for message in messages]
    return prompt_of(request, guard, 2 * sum(map(len, texts)) + MAX_ADDED_CHARS)


def quoted(message: dict[str, str], guard: ControlTokenGuard) -> dict[str, str]:
    """What the client wrote, as the template shall see it."""
    return {key: text if key == "role" else guard.quote(text) for key, text in message.items()}


def prompt_of(
    request: dict[str, Any], guard: ControlTokenGuard | None, max_chars: int
) -> dict[str, Any]:
    try:
        text = render(request, guard, max_chars)
        return {"text": text, "guard": None if guard is None else guard.as_values()}
    except PromptTooLong:
        return {"is_too_long": True}
    except MemoryError:
        compiled.cache_clear()
        return {"cause": f"it used more than {MAX_MEMORY_BYTES >> 20} MiB of memory"}
    except OutputTooLong:
        return {"cause": f"its output is longer than the messages twice and {MAX_ADDED_CHARS} more"}
    except RecursionError:
        return {"cause": "it recursed too deeply"}
    except TemplateRaised as exc:
        return {"cause": str(exc.message)[:_MAX_CAUSE_CHARS]}
    except TemplateSyntaxError as exc:
        return {"cause": f"syntax error in line {exc.lineno}: {exc.message}"[:_MAX_CAUSE_CHARS]}
    except SecurityError as exc:
        return {"cause": f"it tried something forbidden: {exc}"[:_MAX_CAUSE_CHARS]}
    except Exception as exc:
        return {"cause": f"{type(exc).__name__}: {exc}"[:_MAX_CAUSE_CHARS]}


def cpu_s(num_bytes: int) -> int:
    return CPU_S_PER_RENDER + (num_bytes >> 20)


if __name__ == "__main__":
    limit_process(MAX_MEMORY_BYTES)
    serve(answer, cpu_s)
