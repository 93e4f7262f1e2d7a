"""The gateway's end of one template process: asked with a deadline, killed when late."""

import asyncio
import json
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from services.gateway.errors import TemplateFailed

RENDER_TIMEOUT_S = 5.0  # wall time; the child's CPU limit usually comes first
_EXIT_TIMEOUT_S = 1.0
# JSON writes a character as at most six bytes per UTF-16 unit.
_MAX_REPLY_BYTES = 6 * 2**20 + 2**10
_CHILD = Path(__file__).with_name("template_child.py")


class TemplateProcess:
    """Renders one template at a time. After TemplateFailed check `is_alive` before reusing it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls) -> "TemplateProcess":
        """No environment, no working folder of ours, nothing on its module path but the library."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", str(_CHILD),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )  # fmt: skip
        return cls(process)

    @property
    def is_alive(self) -> bool:
        return self._process.returncode is None

    async def render(self, template: str, variables: dict[str, Any]) -> str:
        """Raises TemplateFailed with a cause that the client may see."""
        try:
            async with asyncio.timeout(RENDER_TIMEOUT_S):
                reply = await self._exchange({"template": template, "variables": variables})
        except TimeoutError as exc:
            await self.kill()
            raise TemplateFailed(f"it ran longer than {RENDER_TIMEOUT_S:g} s") from exc
        except (OSError, asyncio.IncompleteReadError, ValueError) as exc:
            raise TemplateFailed(await self._death()) from exc
        except asyncio.CancelledError:
            await self.kill()  # its answer would be taken for the next request's
            raise
        if "text" not in reply:
            raise TemplateFailed(reply.get("cause", "it gave no answer"))
        return reply["text"]

    async def _exchange(self, request: dict[str, Any]) -> dict[str, str]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        data = json.dumps(request).encode()
        stdin.write(struct.pack(">I", len(data)) + data)
        await stdin.drain()
        (length,) = struct.unpack(">I", await stdout.readexactly(4))
        if length > _MAX_REPLY_BYTES:
            raise ValueError("the reply is too long")
        reply: dict[str, str] = json.loads(await stdout.readexactly(length))
        return reply

    async def _death(self) -> str:
        """Its pipe may close a moment before its status is known; a kill would hide that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_TIMEOUT_S):
                await self._process.wait()
        await self.kill()
        if self._process.returncode == -signal.SIGXCPU:
            return "it used more than a second of CPU time"
        return "its process died, probably for lack of memory"

    async def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
