"""Validates heartbeats before they reach rows and plans, and could stop everybody's round."""

from collections.abc import Iterator

from libs.common.bus.messages import AgentHeartbeat, FetcherHeartbeat, Message

MAX_INTEGER = 2**63 - 1  # of a bigint
MAX_DEVICES = 256
MAX_WORKERS = 4096
MAX_FETCHES = 65_536
MAX_UNACKNOWLEDGED = 1024
MAX_ADDRESS_CHARACTERS = 210
PUBLIC_KEY_CHARACTERS = 40


def invalid_field(heartbeat: AgentHeartbeat | FetcherHeartbeat) -> str | None:
    """The first field that is out of its limits, with what is wrong; None for a valid one."""
    return next(_complaints(heartbeat), None)


def _complaints(heartbeat: AgentHeartbeat | FetcherHeartbeat) -> Iterator[str]:
    yield from _integers(heartbeat)
    if isinstance(heartbeat, AgentHeartbeat):
        yield from _agent_complaints(heartbeat)
    else:
        yield from _fetcher_complaints(heartbeat)


def _agent_complaints(heartbeat: AgentHeartbeat) -> Iterator[str]:
    yield from _count("devices", len(heartbeat.devices), MAX_DEVICES)
    yield from _count("workers", len(heartbeat.workers), MAX_WORKERS)
    yield from _count("unacknowledged", len(heartbeat.unacknowledged), MAX_UNACKNOWLEDGED)
    for end in heartbeat.unacknowledged:
        yield from _integers(end, "unacknowledged.")
    for device in heartbeat.devices:
        yield from _integers(device, "devices.")
        if device.cores < 1:
            yield f"devices.cores is {device.cores}, not 1 or more"
    if len({worker.worker_id for worker in heartbeat.workers}) < len(heartbeat.workers):
        yield "workers name one id twice"
    for worker in heartbeat.workers:
        yield from _integers(worker, "workers.")
        if len(worker.address or "") > MAX_ADDRESS_CHARACTERS or "\x00" in (worker.address or ""):
            yield "workers.address is no address"
        if worker.public_key is not None and not _is_key(worker.public_key):
            yield "workers.public_key is no key"


def _fetcher_complaints(heartbeat: FetcherHeartbeat) -> Iterator[str]:
    yield from _count("fetches", len(heartbeat.fetches), MAX_FETCHES)
    rate = heartbeat.measured_bytes_per_s
    if rate is not None and not 0 <= rate < 1e18:
        yield "measured_bytes_per_s is out of range"
    if len({fetch.fetch_id for fetch in heartbeat.fetches}) < len(heartbeat.fetches):
        yield "fetches name one id twice"
    for fetch in heartbeat.fetches:
        yield from _integers(fetch, "fetches.")


def _integers(message: Message, prefix: str = "") -> Iterator[str]:
    for name in type(message).model_fields:
        value = getattr(message, name)
        if type(value) is int and not 0 <= value <= MAX_INTEGER:
            yield f"{prefix}{name} is {value}, not between 0 and {MAX_INTEGER}"


def _count(name: str, number: int, limit: int) -> Iterator[str]:
    if number > limit:
        yield f"{name} are {number}, more than {limit}"


def _is_key(text: str) -> bool:
    return len(text) == PUBLIC_KEY_CHARACTERS and text.isascii() and text.isprintable()
