"""Renders chat templates in child processes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from libs.common.reasons import Reason
from services.gateway.children.child_pool import ChildPool
from services.gateway.children.child_process import ChildCommand
from services.gateway.errors import ChildFailed, MessagesRefused, PromptTooLong, TemplateFailed
from services.gateway.fair_semaphore import FairSemaphore
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

        Raises PromptTooLong past `limit`, MessagesRefused, or TemplateFailed with a cause that
        the client may see.
        """
        request = {
            "template": template,
            "variables": variables,
            "specials": list(specials),
            "limit": None if limit is None else [limit.max_chars, limit.uncounted],
        }
        data = json.dumps(request, ensure_ascii=False).encode(errors="surrogatepass")
        try:
            async with self._children.child(tenant) as child:
                return _prompt(json.loads(await child.exchange(data, RENDER_TIMEOUT_S)))
        except ChildFailed as exc:
            raise TemplateFailed(str(exc)) from exc


def _prompt(reply: dict[str, Any]) -> RenderedPrompt:
    if reply.get("is_too_long"):
        raise PromptTooLong
    if "unquotable" in reply:
        raise MessagesRefused(reply["unquotable"])
    if "text" not in reply:
        raise TemplateFailed(reply.get("cause", "it gave no answer"))
    guard = reply["guard"]
    return RenderedPrompt(
        reply["text"], None if guard is None else ControlTokenGuard.of_values(guard)
    )
