"""The gateway's settings, read once at start."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from libs.common.errors import SettingsError
from libs.common.ids import is_id, new_id
from libs.common.settings import BusSettings, DatabaseSettings, Environment, ObjectStoreSettings
from libs.common.tenant_shares import TenantShares

DEADLINE_KEY = "REQUEST_DEADLINE_S"
MAX_OPEN_REQUESTS = 20_000  # a heartbeat names them all, in some 600 KB
_MAX_DEADLINE_S = 86_400.0
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")


@dataclass(frozen=True)
class Timing:
    """Intervals of one request's life, as the protocol fixes them; tests shorten them."""

    repeat_s: float = 2.0  # a submission is repeated until its request is assigned
    submit_timeout_s: float = 10.0  # no scheduler answered for so long: 503
    silence_s: float = 2.0  # without tokens, the endpoint is asked what there is
    retry_s: float = 0.25  # between tries at something that is not there yet
    # After the first try at an endpoint that has just been assigned; each further wait is twice as
    # long. It listens a few milliseconds later, and a whole cold start may wait for its answer.
    first_retry_s: float = 0.01
    call_timeout_s: float = 2.0  # one request/reply over the bus
    progress_s: float = 5.0  # a waiting client hears something at least so often
    slow_client_s: float = 30.0  # a stream that stays full for so long ends
    header_s: float = 10.0  # a connection without a whole request header for so long is closed
    heartbeat_s: float = 1.0
    cancel_timeout_s: float = 30.0  # a cancellation is repeated for so long
    bus_probe_s: float = 0.5  # between two questions whether the bus itself answers
    bus_timeout_s: float = 1.0  # then it pauses, and nobody's silence counts
    reconnect_grace_s: float = 3.0  # others need it too, before their silence means anything
    deadline_s: float = 600.0  # of a request, from its arrival; its client may only lower it


@dataclass(frozen=True)
class Limits:
    max_body_bytes: int = 8 * 2**20
    max_messages: int = 2_048
    # Of an answer that is not streamed: its tokens and their alternatives, twelve bytes each.
    max_logprobs: int = 3 * 2**20
    max_unread_tokens: int = 1_024  # per stream, between worker and client
    max_unread_bytes: int = 2**20
    max_open_requests: int = 8_192
    max_waiting_bytes: int = 256 * 2**20  # of bodies and prompts of open requests
    tenant_body_bytes_per_s: int = 1_000_000  # of each tenant's bodies, after one; 0: no limit
    max_connections: int = 16_384  # lower where the system allows fewer descriptors
    num_tokenizer_processes: int = 2
    max_cached_model_bytes: int = 64 * 2**20  # of models that are known without asking Postgres
    max_cached_tokenizer_bytes: int = 128 * 2**20  # of files, here and in each of the processes
    max_tokenizer_bytes: int = 64 * 2**20
    max_tokenizer_folder_bytes: int = 4 * 2**30  # on disk
    num_template_processes: int = 2


@dataclass(frozen=True)
class GatewaySettings:
    gateway_id: str  # of this process: its name, and a part that is new at every start
    host: str
    port: int
    database: DatabaseSettings
    bus: BusSettings
    object_store: ObjectStoreSettings
    bootstrap_api_key: str | None = field(repr=False)
    health_file: Path | None
    tokenizer_folder: Path | None  # None: tokenizers are kept in memory only
    drain_timeout_s: float
    log_level: str
    allowed_origins: tuple[str, ...] = ()  # of web pages that may use it from a browser; * is all
    timing: Timing = field(default_factory=Timing)
    tenant_shares: TenantShares = field(default_factory=TenantShares)  # of what `limits` bound
    limits: Limits = field(default_factory=Limits)

    @classmethod
    def read(cls, env: Environment) -> "GatewaySettings":
        """Raises SettingsError, naming the key and its value."""
        return cls(
            gateway_id=gateway_id_from(env),
            host=env.text("GATEWAY_HOST", "127.0.0.1"),
            port=env.integer("GATEWAY_PORT", 8080),
            database=DatabaseSettings.read(env),
            bus=BusSettings.read(env),
            object_store=ObjectStoreSettings.read(env),
            bootstrap_api_key=_optional_secret(env, "BOOTSTRAP_API_KEY"),
            health_file=_optional_path(env, "HEALTH_FILE"),
            tokenizer_folder=_optional_path(env, "GATEWAY_TOKENIZER_FOLDER"),
            drain_timeout_s=env.seconds("GATEWAY_DRAIN_TIMEOUT_S", 30),
            log_level=env.text("LOG_LEVEL", "INFO"),
            allowed_origins=read_origins(env),
            timing=Timing(deadline_s=read_deadline_s(env)),
            tenant_shares=TenantShares.read(env),
            limits=_limits(env),
        )


def gateway_id_from(env: Environment) -> str:
    """What it was asked before it died must not be taken for what it is asked now."""
    name = env.optional_text("GATEWAY_ID") or new_id("gateway")
    if not is_id(new_id(name)):
        expected = "lower-case letters, digits, - and _, at most 42"
        raise SettingsError(env.prefix + "GATEWAY_ID", name, expected)
    return new_id(name)


def read_origins(env: Environment) -> tuple[str, ...]:
    text = env.optional_text("GATEWAY_ALLOWED_ORIGINS") or ""
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(origin == "*" or _ORIGIN.fullmatch(origin) for origin in origins):
        expected = "origins such as https://chat.example.org, with commas between, or *"
        raise SettingsError(env.prefix + "GATEWAY_ALLOWED_ORIGINS", text, expected)
    return origins


def read_deadline_s(env: Environment) -> float:
    """What a cold start of the largest model takes over the slowest network must fit in it."""
    deadline_s = env.seconds(DEADLINE_KEY, Timing.deadline_s)
    if not 1 <= deadline_s <= _MAX_DEADLINE_S:
        expected = f"1 to {_MAX_DEADLINE_S:g} seconds"
        raise SettingsError(env.prefix + DEADLINE_KEY, f"{deadline_s:g}", expected)
    return deadline_s


def _limits(env: Environment) -> Limits:
    defaults = Limits()
    max_body_bytes = env.size_bytes("GATEWAY_MAX_BODY", str(defaults.max_body_bytes))
    return Limits(
        max_body_bytes=max_body_bytes,
        max_open_requests=env.integer(
            *("GATEWAY_MAX_OPEN_REQUESTS", defaults.max_open_requests),
            minimum=1,
            maximum=MAX_OPEN_REQUESTS,
        ),
        max_waiting_bytes=_max_waiting_bytes(env, defaults, max_body_bytes),
        tenant_body_bytes_per_s=env.size_bytes(
            "GATEWAY_TENANT_BODY_BYTES_PER_S", str(defaults.tenant_body_bytes_per_s)
        ),
        max_logprobs=env.integer("GATEWAY_MAX_LOGPROBS", defaults.max_logprobs, minimum=1),
        max_connections=env.integer("GATEWAY_MAX_CONNECTIONS", defaults.max_connections, minimum=1),
        num_tokenizer_processes=env.integer(
            "GATEWAY_TOKENIZER_PROCESSES", defaults.num_tokenizer_processes, minimum=1
        ),
        max_cached_model_bytes=env.size_bytes(
            "GATEWAY_MODEL_CACHE", str(defaults.max_cached_model_bytes)
        ),
        max_cached_tokenizer_bytes=env.size_bytes(
            "GATEWAY_TOKENIZER_CACHE", str(defaults.max_cached_tokenizer_bytes)
        ),
        max_tokenizer_folder_bytes=env.size_bytes(
            "GATEWAY_TOKENIZER_FOLDER_BYTES", str(defaults.max_tokenizer_folder_bytes)
        ),
        num_template_processes=env.integer(
            "GATEWAY_TEMPLATE_PROCESSES", defaults.num_template_processes, minimum=1
        ),
    )


def _max_waiting_bytes(env: Environment, defaults: Limits, max_body_bytes: int) -> int:
    key = "GATEWAY_MAX_WAITING_BYTES"
    found = env.size_bytes(key, str(max(defaults.max_waiting_bytes, max_body_bytes)))
    if found < max_body_bytes:
        expected = f"room for one body, {max_body_bytes} bytes"
        raise SettingsError(env.prefix + key, str(found), expected)
    return found


def _optional_secret(env: Environment, key: str) -> str | None:
    return env.secret(key) if env.optional_text(key + "_FILE") else None


def _optional_path(env: Environment, key: str) -> Path | None:
    text = env.optional_text(key)
    return Path(text) if text else None
