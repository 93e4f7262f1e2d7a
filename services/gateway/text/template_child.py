"""Runs in its own process, by path, isolated (`python -I`): renders chat templates for the gateway.

A template is a stranger's program. The sandbox keeps it from Python's internals; limits that the
kernel enforces keep it from this machine's memory and time. Frames are a 4-byte big-endian length
and JSON, over stdin and stdout. Nothing here is imported by the service but the two constants.
"""

import json
import resource
import struct
import sys
import time
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, BinaryIO

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

MAX_OUTPUT_BYTES = 2**20
MAX_MEMORY_BYTES = 256 * 2**20
CPU_S_PER_RENDER = 1
_MAX_CAUSE_CHARS = 300


class TemplateRaised(TemplateError):
    """The template itself called raise_exception."""


class OutputTooLong(Exception):
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


def render(source: str, variables: dict[str, Any]) -> str:
    pieces: list[str] = []
    size_bytes = 0
    for piece in compiled(source).generate(**variables):
        size_bytes += len(piece)  # characters: never more than the bytes
        if size_bytes > MAX_OUTPUT_BYTES:
            raise OutputTooLong
        pieces.append(piece)
    text = "".join(pieces)
    if len(text.encode(errors="surrogatepass")) > MAX_OUTPUT_BYTES:
        raise OutputTooLong
    return text


def answer(request: dict[str, Any]) -> dict[str, str]:
    try:
        return {"text": render(request["template"], request["variables"])}
    except MemoryError:
        compiled.cache_clear()
        return {"cause": f"it used more than {MAX_MEMORY_BYTES >> 20} MiB of memory"}
    except OutputTooLong:
        return {"cause": f"its output is longer than {MAX_OUTPUT_BYTES >> 20} MiB"}
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


def limit_process() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))


def limit_next_render() -> None:
    """The kernel counts the process's whole CPU time, in seconds, and kills at the soft limit."""
    soft = int(time.process_time()) + 1 + CPU_S_PER_RENDER
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def serve(source: BinaryIO, sink: BinaryIO, handle: Callable[[dict[str, Any]], Any]) -> None:
    while header := source.read(4):
        (length,) = struct.unpack(">I", header)
        request = json.loads(source.read(length))
        limit_next_render()
        data = json.dumps(handle(request)).encode()
        sink.write(struct.pack(">I", len(data)) + data)
        sink.flush()


if __name__ == "__main__":
    limit_process()
    serve(sys.stdin.buffer, sys.stdout.buffer, answer)
