"""Asks the leading scheduler for all routes when the gateway starts, part by part.

They would come by themselves within an interval; until then each warm request would take the way by
the scheduler. Changes are heard meanwhile, so an answer may be older than what is known by then: a
route is a hint, and the next repetition of its part puts it right.
"""

import asyncio
import logging
from typing import cast

from libs.common.bus.bus import Bus
from libs.common.bus.messages import ListRoutes, RoutesPart, RoutesPublished
from libs.common.bus.route_parts import ALL_MODELS, is_within, parts_of
from libs.common.bus.subjects import ROUTES_LIST
from libs.common.errors import BusError
from services.gateway.routing.route_table import RouteTable
from services.gateway.settings import Timing

logger = logging.getLogger(__name__)

_MAX_FAILURES = 20  # then what the leader repeats has long come


class RouteLoader:
    """`run` returns when all routes are known, or when nobody answers."""

    def __init__(self, bus: Bus, routes: RouteTable, timing: Timing) -> None:
        self._bus, self._routes, self._timing = bus, routes, timing

    async def run(self) -> None:
        wanted, num_failures = [ALL_MODELS], 0
        while wanted and num_failures < _MAX_FAILURES:
            part = wanted.pop()
            told = await self._ask(part)
            if told is None:
                num_failures += 1
                wanted.append(part)
                await asyncio.sleep(self._timing.retry_s)
            else:
                wanted += [rest for rest in parts_of(part, told.num_parts) if rest != told]

    async def _ask(self, part: RoutesPart) -> RoutesPart | None:
        """The part that was told, which is this one or within it; None without an answer."""
        try:
            reply = await self._bus.request(
                ROUTES_LIST, None, ListRoutes(part=part), timeout_s=self._timing.call_timeout_s
            )
        except BusError as exc:
            logger.info("the routes were not told: %s", exc)
            return None
        published = cast("RoutesPublished", reply)
        if published.part is None or not is_within(published.part, part):
            return None
        await self._routes.on_published(published)
        return published.part
