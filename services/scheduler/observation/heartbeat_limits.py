"""Validates what nodes say before it reaches rows and plans, and could stop everybody's round.

What the classes of `messages.py` cannot refuse is looked for here: field by field, however deep.
"""

import re
from collections.abc import Hashable, Iterator, Sequence
from datetime import datetime
from math import isfinite

from libs.common.bus.messages import AgentHeartbeat, FetcherHeartbeat, Message

MAX_INTEGER = 2**63 - 1  # of a bigint
MAX_DEVICES = 256
MAX_UNITS = 262_144  # of a node's host cache
MAX_DURATION = 10**12  # in milliseconds 30 years: dates that lie so far back have a row
# Of fields by their name; others may have as many or as much as their types can.
_MAX_COUNTS = {
    "devices": MAX_DEVICES,
    "workers": 4096,
    "steps": 16_384,
    "unacknowledged": 1024,
    "fetches": 65_536,
    "added": 256,
    "removed": 256,
}
_MAX_VALUES = {
    "accepted_version": 2**62,  # the next desired version is one higher
    "idle_ms": MAX_DURATION,
    "step_us": MAX_DURATION,
    "num_units": MAX_UNITS,
}
_FRACTIONS = frozenset({"compute_share", "compute_demand"})
_YEARS = range(2, 9999)  # whose moments stay dates in every time zone
_ADDRESS = re.compile(r"tcp://\S{3,200}")
_PUBLIC_KEY = re.compile(r"[0-9a-zA-Z.:+=^!/*?&<>()\[\]{}@%$#-]{40}")  # Z85


def invalid_field(message: Message) -> str | None:
    """The first field that is out of its limits, with what is wrong; None for a valid message.

    Two thousand heartbeats a second come this way: a field that is in order costs one comparison.
    """
    found = _first_of(message)
    if found is None and isinstance(message, AgentHeartbeat):
        return next(_agent_complaints(message), None)
    if found is None and isinstance(message, FetcherHeartbeat):
        return next(_fetcher_complaints(message), None)
    return found


def _first_of(message: Message) -> str | None:
    """The first complaint, with the path of its field from this message on."""
    for name, value in message.__dict__.items():
        kind = type(value)
        if kind is int:
            if not 0 <= value <= _MAX_VALUES.get(name, MAX_INTEGER):
                return f"{name} is not between 0 and {_MAX_VALUES.get(name, MAX_INTEGER)}"
        elif kind is str:
            if "\x00" in value:
                return f"{name} has a NUL, which no column holds"
        elif kind is not bool and value is not None:
            found = _first_of_value(name, value)
            if found is not None:
                return found
    return None


def _first_of_value(name: str, value: object) -> str | None:
    if isinstance(value, tuple):
        return _first_of_entries(name, value) if value else None
    if isinstance(value, float):
        is_valid = isfinite(value) and 0 <= value < 1e18 and (value <= 1 or name not in _FRACTIONS)
        return None if is_valid else f"{name} is out of range"
    if isinstance(value, datetime):
        return None if value.year in _YEARS else f"{name} is no date of ours"
    if isinstance(value, Message):
        found = _first_of(value)
        return None if found is None else f"{name}.{found}"
    if isinstance(value, str) and "\x00" in value:  # of a class of its own
        return f"{name} has a NUL, which no column holds"
    return None


def _first_of_entries(name: str, values: tuple[object, ...]) -> str | None:
    """They are of one class: of ids, digests and numbers that class has the limits."""
    limit = _MAX_COUNTS.get(name)
    if limit is not None and len(values) > limit:
        return f"{name} are {len(values)}, more than {limit}"
    if not isinstance(values[0], Message):
        return None
    for value in values:
        assert isinstance(value, Message), f"{name} are messages"
        found = _first_of(value)
        if found is not None:
            return f"{name}.{found}"
    return None


def _agent_complaints(heartbeat: AgentHeartbeat) -> Iterator[str]:
    yield from _once("devices", [device.index for device in heartbeat.devices])
    yield from _once("engines", [engine.engine for engine in heartbeat.engines])
    yield from _once("workers", [worker.worker_id for worker in heartbeat.workers])
    for device in heartbeat.devices:
        if device.cores < 1:
            yield f"devices.cores is {device.cores}, not 1 or more"
    for worker in heartbeat.workers:
        if worker.address is not None and not _ADDRESS.fullmatch(worker.address):
            yield "workers.address is no address"
        if worker.public_key is not None and not _PUBLIC_KEY.fullmatch(worker.public_key):
            yield "workers.public_key is no key"


def _fetcher_complaints(heartbeat: FetcherHeartbeat) -> Iterator[str]:
    report = heartbeat.host_cache
    yield from _once("fetches", [fetch.fetch_id for fetch in heartbeat.fetches])
    yield from _once("host_cache", (*report.added, *report.removed))
    if report.since_version > report.version:
        yield f"host_cache.since_version is {report.since_version}, after {report.version}"


def _once(name: str, ids: Sequence[Hashable]) -> Iterator[str]:
    if len(set(ids)) < len(ids):
        yield f"{name} name one id twice"
