"""What a look at a stack found: rows of one snapshot of Postgres, and the nodes' own state."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RequestRecord:
    """An open request, or one that ended lately. Ages are by the database's clock."""

    id: str
    state: str
    outcome: str | None
    has_end: bool
    overdue_s: float  # since its deadline; negative before it
    gateway_silence_s: float | None  # None: its gateway has not been heard of yet
    age_s: float


@dataclass(frozen=True)
class DeviceRecord:
    node_id: str
    index: int
    memory_bytes: int
    reserved_bytes: int


@dataclass(frozen=True)
class WorkerRecord:
    id: str
    endpoint_id: str
    node_id: str
    stage_index: int
    first_layer: int
    last_layer: int  # exclusive
    tenant: str  # of its model
    is_finished: bool
    is_desired: bool
    has_reservation: bool
    has_end: bool
    pid: int | None


@dataclass(frozen=True)
class MemberRecord:
    """A worker's part in the generation of its endpoint that serves."""

    worker_id: str
    is_entry: bool
    first_layer: int
    last_layer: int  # exclusive


@dataclass(frozen=True)
class EndpointRecord:
    id: str
    tenant: str
    is_serving: bool
    is_finished: bool
    has_end: bool
    num_layers: int  # of its model
    members: tuple[MemberRecord, ...]  # empty where generations are not recorded


@dataclass(frozen=True)
class UsageRecord:
    """Of one model of one tenant, over all days that the requests' rows still cover."""

    tenant: str
    model_id: str
    num_requests: int
    num_accounted: int  # rows of requests that say they were counted
    least: int  # of the figures that are added up; below zero something was taken away


@dataclass(frozen=True)
class NodeRecord:
    id: str
    desired_version: int
    agent_accepted_version: int
    fetcher_accepted_version: int
    cached_units: frozenset[str]  # as its fetcher last reported


@dataclass(frozen=True)
class Records:
    """One snapshot of Postgres."""

    num_leaderships: int
    requests: tuple[RequestRecord, ...]
    devices: tuple[DeviceRecord, ...]
    workers: tuple[WorkerRecord, ...]  # unfinished or desired ones, and those with a reservation
    endpoints: tuple[EndpointRecord, ...]  # unfinished ones, and those of these workers
    usage: tuple[UsageRecord, ...]
    nodes: tuple[NodeRecord, ...]


@dataclass(frozen=True)
class UnitFile:
    """A unit in a node's shared memory, as its header says."""

    digest: str
    fault: str | None  # what makes it no unit file
    is_complete: bool = False
    size_bytes: int = 0
    verified_bytes: int = 0
    verified_prefix_bytes: int = 0  # of the chunks that are marked as verified, from the start
    computed_digest: str | None = None  # None: it was not hashed


@dataclass(frozen=True)
class NodeState:
    """What a node's processes hold, seen from its machine."""

    node_id: str
    agent_pid: int | None  # None: it is down
    worker_pids: frozenset[int]  # processes that became workers; standbys are none
    units: tuple[UnitFile, ...] | None  # None: its fetcher is down, or not of this machine


@dataclass(frozen=True)
class StackState:
    records: Records
    nodes: tuple[NodeState, ...]
    abandoned_folders: tuple[str, ...] = ()  # in shared memory, of supervisors that died
