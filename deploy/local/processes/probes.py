"""How the supervisor knows that a service is healthy: its health file, and the gateway's answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from deploy.local.processes.readiness import Probe

HEALTH_PERIOD_S = 1.0  # every service touches its file this often while it is healthy
_FRESH_S = 4 * HEALTH_PERIOD_S
_ANSWER_TIMEOUT_S = 2.0


def touched_recently(path: Path, within_s: float = _FRESH_S) -> Probe:
    async def probe() -> bool:
        return _is_fresh(path, within_s)

    return probe


def also_answers(first: Probe, url: str) -> Probe:
    async def probe() -> bool:
        return await first() and await answers_ok(url)

    return probe


def remove_before_start(path: Path) -> Callable[[], Awaitable[None]]:
    """For `before_start`: so that an earlier process's sign of life is not taken for its own."""

    async def remove() -> None:
        await asyncio.to_thread(path.unlink, missing_ok=True)

    return remove


def _is_fresh(path: Path, within_s: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime < within_s
    except FileNotFoundError:
        return False


async def answers_ok(url: str) -> bool:
    """One GET on this machine: proxies and certificates play no part, no answer means not yet."""
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        try:
            return (await client.get(url, timeout=_ANSWER_TIMEOUT_S)).status_code == 200
        except httpx.TransportError:
            return False
