"""What the routes need of the process: built once by bootstrap, found on the app's state."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from libs.common.bus.bus import Bus
from libs.common.records.outbox import OutboxRelay
from services.gateway.auth import Authenticator, Caller
from services.gateway.generation.cancel_retrier import CancelRetrier
from services.gateway.generation.dispatcher import Dispatcher
from services.gateway.generation.job import TIMEOUT_HEADER
from services.gateway.generation.waiting_requests import WaitingRequests
from services.gateway.http.body_pace import BodyPace
from services.gateway.journal import Journal
from services.gateway.key_uses import KeyUses
from services.gateway.metrics.endpoint_gauges import endpoint_gauges
from services.gateway.metrics.metrics import Metrics
from services.gateway.openai.prepare import Arrival, Preparer
from services.gateway.registry.model_lists import ModelLists
from services.gateway.registry.model_registry import ModelRegistry
from services.gateway.routing.route_table import RouteTable
from services.gateway.store.history import ViewStore
from services.gateway.store.keys import KeyStore
from services.gateway.store.models import ModelStore
from services.gateway.store.nodes import NodeStore
from services.gateway.store.usage import UsageStore
from services.gateway.tenant_limits import TenantLimits

_BEARER = HTTPBearer(auto_error=False, description="An API key")


@dataclass(frozen=True)
class Gateway:
    bus: Bus
    authenticator: Authenticator
    tenant_limits: TenantLimits
    body_pace: BodyPace
    registry: ModelRegistry
    lists: ModelLists
    routes: RouteTable
    preparer: Preparer
    dispatcher: Dispatcher
    cancel_retrier: CancelRetrier
    waiting: WaitingRequests
    journal: Journal
    metrics: Metrics
    outbox: OutboxRelay
    keys: KeyStore
    key_uses: KeyUses
    models: ModelStore
    nodes: NodeStore
    views: ViewStore
    usage: UsageStore

    async def model_written(self, tenant: str, name: str) -> None:
        """After a commit: tell everybody, and know it here before the client's next request."""
        self.outbox.wake()
        await self.registry.read_again(tenant, name)

    def reasons_not_ready(self) -> list[str]:
        """Empty when a new request has every chance."""
        conditions = {
            "draining": not self.dispatcher.is_draining,
            "the message bus is not connected": self.bus.is_connected,
            "models were not read yet": self.registry.is_loaded,
        }
        return [reason for reason, holds in conditions.items() if not holds]

    def watch_gauges(self) -> None:
        watch = self.metrics.watch
        watch(
            "hydra_gateway_open_requests",
            "Requests that are open now",
            lambda: len(self.dispatcher.open_ids),
        )
        watch(
            "hydra_gateway_journal_rows",
            "Request rows not written yet",
            lambda: self.journal.num_kept,
        )
        watch(
            "hydra_gateway_journal_lost_rows",
            "Request rows given up while Postgres was away",
            lambda: self.journal.num_lost,
        )
        watch(
            "hydra_gateway_bus_connected",
            "1 while NATS is connected",
            lambda: int(self.bus.is_connected),
        )
        self.metrics.watch_all(endpoint_gauges(lambda: self.routes.loads))


async def gateway_of(request: Request) -> Gateway:
    return cast("Gateway", request.app.state.gateway)


async def caller_of(
    request: Request,
    _shown_in_docs: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Caller:
    """Whose key the request guard has checked."""
    return cast("Caller", request.state.caller)


async def arrival_of(request: Request) -> Arrival:
    state = request.state
    return Arrival(
        state.request_id,
        state.caller,
        state.arrived_s,
        request.headers.get(TIMEOUT_HEADER),
        state.held,
    )


GatewayDep = Annotated[Gateway, Depends(gateway_of)]
CallerDep = Annotated[Caller, Depends(caller_of)]
ArrivalDep = Annotated[Arrival, Depends(arrival_of)]
