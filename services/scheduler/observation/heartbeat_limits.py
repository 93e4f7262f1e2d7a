"""Validates what nodes say before it reaches rows and plans, and could stop everybody's round.

What the classes of `messages.py` cannot refuse is looked for here: field by field, however deep.
"""

import re
from collections.abc import Hashable, Iterable, Iterator
from datetime import datetime
from math import isfinite

from libs.common.bus.messages import AgentHeartbeat, FetcherHeartbeat, Message

MAX_INTEGER = 2**63 - 1  # of a bigint
MAX_DEVICES = 256
MAX_DURATION = 10**12  # in milliseconds 30 years: dates that lie so far back have a row
# Of fields by their name; others may have as many or as much as their types can.
_MAX_COUNTS = {
    "devices": MAX_DEVICES,
    "workers": 4096,
    "steps": 16_384,
    "unacknowledged": 1024,
    "fetches": 65_536,
    "cached_units": 262_144,
}
_MAX_VALUES = {
    "accepted_version": 2**62,  # the next desired version is one higher
    "idle_ms": MAX_DURATION,
    "step_us": MAX_DURATION,
}
_YEARS = range(2, 9999)  # whose moments stay dates in every time zone
_ADDRESS = re.compile(r"tcp://\S{3,200}")
_PUBLIC_KEY = re.compile(r"[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")  # Z85


def invalid_field(message: Message) -> str | None:
    """The first field that is out of its limits, with what is wrong; None for a valid message."""
    return next(_complaints(message), None)


def _complaints(message: Message) -> Iterator[str]:
    yield from _fields(message, "")
    if isinstance(message, AgentHeartbeat):
        yield from _agent_complaints(message)
    elif isinstance(message, FetcherHeartbeat):
        yield from _once("fetches", (fetch.fetch_id for fetch in message.fetches))


def _agent_complaints(heartbeat: AgentHeartbeat) -> Iterator[str]:
    yield from _once("devices", (device.index for device in heartbeat.devices))
    yield from _once("engines", (engine.engine for engine in heartbeat.engines))
    yield from _once("workers", (worker.worker_id for worker in heartbeat.workers))
    for device in heartbeat.devices:
        if device.cores < 1:
            yield f"devices.cores is {device.cores}, not 1 or more"
    for worker in heartbeat.workers:
        if worker.address is not None and not _ADDRESS.fullmatch(worker.address):
            yield "workers.address is no address"
        if worker.public_key is not None and not _PUBLIC_KEY.fullmatch(worker.public_key):
            yield "workers.public_key is no key"


def _fields(message: Message, path: str) -> Iterator[str]:
    for name in type(message).model_fields:
        yield from _value(getattr(message, name), f"{path}{name}", name)


def _value(value: object, path: str, name: str) -> Iterator[str]:
    if type(value) is int:
        limit = _MAX_VALUES.get(name, MAX_INTEGER)
        if not 0 <= value <= limit:
            yield f"{path} is not between 0 and {limit}"
    elif isinstance(value, float):
        if not (isfinite(value) and 0 <= value < 1e18):
            yield f"{path} is out of range"
    elif isinstance(value, str):
        if "\x00" in value:
            yield f"{path} has a NUL, which no column holds"
    elif isinstance(value, datetime):
        if value.year not in _YEARS:
            yield f"{path} is no date of ours"
    elif isinstance(value, tuple):
        yield from _entries(value, path, name)
    elif isinstance(value, Message):
        yield from _fields(value, f"{path}.")


def _entries(values: tuple[object, ...], path: str, name: str) -> Iterator[str]:
    limit = _MAX_COUNTS.get(name)
    if limit is not None and len(values) > limit:
        yield f"{path} are {len(values)}, more than {limit}"
        return
    for value in values:
        if isinstance(value, Message):
            yield from _fields(value, f"{path}.")


def _once(name: str, ids: Iterable[Hashable]) -> Iterator[str]:
    listed = list(ids)
    if len(set(listed)) < len(listed):
        yield f"{name} name one id twice"
