"""Renders chat templates in child processes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from libs.common.reasons import Reason
from services.gateway.children.child_pool import ChildPool
from services.gateway.children.child_process import ChildCommand
from services.gateway.errors import (
    ChildFailed,
    MessagesRefused,
    NotServed,
    PromptTooLong,
    TemplateFailed,
)
from services.gateway.fair_semaphore import FairSemaphore
from services.gateway.http.body_pace import pause_for_others
from services.gateway.text.control_token_guard import ControlTokenGuard

RENDER_TIMEOUT_S = 20.0  # wall time; the child's CPU limit usually comes first
_MAX_REPLY_BYTES = 2**27
_COMMAND = ChildCommand(
    Path(__file__).with_name("template_child.py"), max_reply_bytes=_MAX_REPLY_BYTES
)


@dataclass(frozen=True)
class RenderedPrompt:
    """`guard` quotes what of it the client wrote, where that spells special tokens."""

    text: str
    guard: ControlTokenGuard | None


@dataclass(frozen=True)
class PromptLimit:
    """A longer prompt fits no context. `uncounted` are characters that do not count."""

    max_chars: int
    uncounted: str


class TemplatePool:
    def __init__(self, num_processes: int) -> None:
        """Whoever waits has a deadline of its own, and how many may wait the limits of open
        requests say: a turn takes milliseconds, so nobody is refused for lack of one."""
        semaphore = FairSemaphore(
            num_processes,
            what="chat templates are rendered",
            reason=Reason.TEMPLATE_BUSY,
            max_wait_s=None,
            max_waiting=None,
        )
        self._children = ChildPool(_COMMAND, num_processes, semaphore)

    async def __aenter__(self) -> Self:
        self._children.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._children.close()

    async def render(
        self,
        template: str,
        variables: dict[str, Any],
        tenant: str,
        *,
        specials: Sequence[str] = (),
        limit: PromptLimit | None = None,
    ) -> RenderedPrompt:
        """`specials` are texts that in a message stay text.

        Raises PromptTooLong past `limit`, MessagesRefused, TemplateFailed with a cause that the
        client may see, or NotServed where its process is killed or cannot start.
        """
        limits = None if limit is None else [limit.max_chars, limit.uncounted]
        await pause_for_others(_num_chars(variables))
        data = _request(template, variables, {"specials": list(specials), "limit": limits})
        await pause_for_others(len(data))
        try:
            async with self._children.child(tenant) as child:
                return _prompt(await child.exchange(data, RENDER_TIMEOUT_S))
        except ChildFailed as exc:
            if exc.is_own_fault:
                raise TemplateFailed(str(exc)) from exc
            message = f"chat templates cannot be rendered now: {exc}"
            raise NotServed(message, Reason.TEMPLATE_BUSY) from exc


def _num_chars(variables: dict[str, Any]) -> int:
    return sum(len(message["content"]) for message in variables.get("messages", []))


def _request(template: str, variables: dict[str, Any], options: dict[str, Any]) -> bytes:
    """A line of JSON, and the contents of the messages as they are: quoting 8 MB for JSON takes
    ten milliseconds of every stream."""
    messages = variables.get("messages", [])
    sizes = [{**message, "content": len(message["content"])} for message in messages]
    header = {"template": template, "variables": {**variables, "messages": sizes}, **options}
    contents = "".join(message["content"] for message in messages)
    return json.dumps(header).encode() + b"\n" + contents.encode(errors="surrogatepass")


def _prompt(data: bytes) -> RenderedPrompt:
    header, _, text = data.partition(b"\n")
    reply = json.loads(header)
    if reply.get("is_too_long"):
        raise PromptTooLong
    if "unquotable" in reply:
        raise MessagesRefused(reply["unquotable"])
    if "guard" not in reply:
        raise TemplateFailed(reply.get("cause", "it gave no answer"))
    guard = None if reply["guard"] is None else ControlTokenGuard.of_values(reply["guard"])
    return RenderedPrompt(text.decode(errors="surrogatepass"), guard)
