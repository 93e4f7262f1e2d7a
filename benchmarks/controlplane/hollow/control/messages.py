"""What a driver asks of a process of hollow nodes, and what it is told: a line of JSON each."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from benchmarks.controlplane.hollow.journal import DEFAULT_SAMPLE_EVERY
from benchmarks.controlplane.hollow.settings import Settings


class Record(Settings):
    """Begin a journal, in a new file."""

    command: Literal["record"] = "record"
    path: Path
    heartbeat_sample_every: int = Field(default=DEFAULT_SAMPLE_EVERY, ge=1)


class StopRecording(Settings):
    command: Literal["stop_recording"] = "stop_recording"


class SetSilent(Settings):
    """Break these nodes' network, or mend it."""

    command: Literal["set_silent"] = "set_silent"
    node_ids: tuple[str, ...]
    is_silent: bool


class Restart(Settings):
    """As after kill -9 of one or of both processes of each node."""

    command: Literal["restart"] = "restart"
    node_ids: tuple[str, ...]
    services: tuple[Literal["agent", "fetcher"], ...] = ("agent", "fetcher")


class KillWorkers(Settings):
    """As by kill -9; those that are not here are passed over."""

    command: Literal["kill_workers"] = "kill_workers"
    worker_ids: tuple[str, ...]


class ReadStatus(Settings):
    command: Literal["read_status"] = "read_status"


Request = Record | StopRecording | SetSilent | Restart | KillWorkers | ReadStatus


class Envelope(Settings):
    request: Request = Field(discriminator="command")


class Status(Settings):
    num_nodes: int
    num_connected: int  # of them: both connections stand, and nobody made it silent
    num_workers: int  # that have been launched and have not ended
    cpu_s: float  # of this process, since its start
    resident_bytes: int


class Reply(Settings):
    error: str | None = None  # the request was not carried out, or not wholly
    num_killed: int | None = None
    status: Status | None = None
