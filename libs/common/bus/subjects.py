"""The subject table: which message goes over which subject, who may publish it, who may listen.

The NATS server's permissions are generated from this table (`permissions_for`), so a service can
neither read nor publish what does not stand here. `{}` marks the one variable token of a subject.
"""

from dataclasses import dataclass
from enum import StrEnum

from libs.common.bus import messages as m

PREFIX = "hydra.v1"


class Service(StrEnum):
    GATEWAY = "gateway"
    SCHEDULER = "scheduler"
    FETCHER = "fetcher"
    WORKER = "worker"  # the node's agent; a worker process never speaks on the bus

    @property
    def inbox_prefix(self) -> str:
        """Replies go to an inbox only its own service may read."""
        return f"_INBOX_{self.value}"


@dataclass(frozen=True)
class Subject:
    """One row of the table. `reply` is the answer's class for request/reply subjects."""

    pattern: str
    message: type[m.Message]
    publishers: frozenset[Service]
    subscribers: frozenset[Service]
    reply: type[m.Message] | None = None

    def of(self, token: str | None = None) -> str:
        """The concrete subject for one id, e.g. `REQUEST_TOKENS.of(request_id)`."""
        if ("{}" in self.pattern) != (token is not None):
            raise ValueError(f"subject {self.pattern} and token {token!r} do not fit")
        if token is not None and ("." in token or "*" in token or ">" in token or " " in token):
            raise ValueError(f"{token!r} cannot be one token of a subject")
        return f"{PREFIX}.{self.pattern}".replace("{}", token or "")

    def token_of(self, name: str) -> str:
        """The id in a concrete subject of this row."""
        before, _, after = f"{PREFIX}.{self.pattern}".partition("{}")
        return name.removeprefix(before).removesuffix(after)

    @property
    def wildcard(self) -> str:
        return f"{PREFIX}.{self.pattern}".replace("{}", "*")


def _row(
    pattern: str,
    message: type[m.Message],
    publishers: Service | frozenset[Service],
    subscribers: Service | frozenset[Service],
    reply: type[m.Message] | None = None,
) -> Subject:
    return Subject(pattern, message, _as_set(publishers), _as_set(subscribers), reply)


def _as_set(services: Service | frozenset[Service]) -> frozenset[Service]:
    return frozenset({services}) if isinstance(services, Service) else services


G, S, F, W = Service.GATEWAY, Service.SCHEDULER, Service.FETCHER, Service.WORKER

# A request. Only the leading scheduler subscribes the first three.
REQUEST_SUBMIT = _row("request.submit", m.SubmitRequest, G, S, m.SubmitReply)
REQUESTS_WAITING = _row("request.waiting", m.ListWaiting, G, S, m.WaitingListed)
REQUEST_CANCEL = _row("request.cancel", m.CancelRequest, G, S, m.Acknowledged)
REQUEST_ASSIGNED = _row("request.{}.assigned", m.RequestAssigned, S, G)
REQUEST_PROGRESS = _row("request.{}.progress", m.RequestProgressed, S, G)
REQUEST_REFUSED = _row("request.{}.refused", m.RequestRefused, S, G)
REQUEST_TOKENS = _row("request.{}.tokens", m.TokensGenerated, W, G)
ENDPOINT_GENERATE = _row("endpoint.{}.generate", m.Generate, G, W, m.GenerateReply)
ENDPOINT_PROMPT = _row("endpoint.{}.prompt", m.PromptPart, G, W, m.GenerateReply)
ENDPOINT_RESEND = _row("endpoint.{}.resend", m.ResendTokens, G, W, m.ResendReply)
ENDPOINT_CANCEL = _row("endpoint.{}.cancel", m.CancelRequest, frozenset({G, S}), W, m.Acknowledged)
ENDPOINT_ACKNOWLEDGE = _row("endpoint.{}.acknowledge", m.AcknowledgeFinish, G, W, m.Acknowledged)

# A node: two processes follow one desired state, each with its own acceptance.
NODE_DESIRED_FETCHER = _row("node.{}.desired.fetcher", m.NodeDesired, S, F, m.DesiredReply)
NODE_DESIRED_AGENT = _row("node.{}.desired.agent", m.NodeDesired, S, W, m.DesiredReply)
NODE_BUCKET_DIGESTS = _row("node.{}.cache.buckets", m.ReadBucketDigests, S, F, m.BucketDigests)
NODE_CACHED_UNITS = _row("node.{}.cache.units", m.ListCachedUnits, S, F, m.CachedUnitsListed)
NODE_AGENT_HEARTBEAT = _row("event.node.{}.agent", m.AgentHeartbeat, W, S)
NODE_FETCHER_HEARTBEAT = _row("event.node.{}.fetcher", m.FetcherHeartbeat, F, S)

GATEWAY_HEARTBEAT = _row("event.gateway.{}.heartbeat", m.GatewayHeartbeat, G, S)
REQUESTS_ENDED = _row("event.gateway.{}.ended", m.RequestsEnded, G, S)
IMPORT_REQUESTED = _row("import.requested.{}", m.ImportModel, S, F)
IMPORT_PROGRESS = _row("event.import.{}.progress", m.ImportProgressed, F, S)
ROUTES = _row("routes", m.RoutesPublished, S, G)
ROUTES_LIST = _row("routes.list", m.ListRoutes, G, S, m.RoutesPublished)
MODELS_CHANGED = _row("event.models.changed", m.ModelsChanged, frozenset({G, S}), frozenset({G, S}))

TABLE: tuple[Subject, ...] = tuple(row for row in list(globals().values()) if type(row) is Subject)

# Imports are the only JetStream stream: a work queue that any fetcher pulls from.
IMPORT_STREAM = "IMPORTS"
IMPORT_CONSUMER = "fetchers"
IMPORT_ACK_WAIT_S = 30.0


@dataclass(frozen=True)
class Permissions:
    """Allow lists for one NATS user; answering a received request is allowed besides."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


_JETSTREAM_PUBLISH: dict[Service, tuple[str, ...]] = {
    S: (
        "$JS.API.INFO",
        f"$JS.API.STREAM.*.{IMPORT_STREAM}",
        f"$JS.API.CONSUMER.CREATE.{IMPORT_STREAM}.>",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{IMPORT_STREAM}.{IMPORT_CONSUMER}",
        f"$JS.API.CONSUMER.INFO.{IMPORT_STREAM}.{IMPORT_CONSUMER}",
    ),
    F: (
        f"$JS.API.CONSUMER.INFO.{IMPORT_STREAM}.{IMPORT_CONSUMER}",
        f"$JS.API.CONSUMER.MSG.NEXT.{IMPORT_STREAM}.{IMPORT_CONSUMER}",
        f"$JS.ACK.{IMPORT_STREAM}.{IMPORT_CONSUMER}.>",
    ),
}


def permissions_for(service: Service) -> Permissions:
    """What the user of `service` may publish and subscribe, from the table above."""
    publish = [row.wildcard for row in TABLE if service in row.publishers]
    subscribe = [row.wildcard for row in TABLE if service in row.subscribers]
    return Permissions(
        publish=(*publish, *_JETSTREAM_PUBLISH.get(service, ())),
        subscribe=(*subscribe, f"{service.inbox_prefix}.>"),
    )
