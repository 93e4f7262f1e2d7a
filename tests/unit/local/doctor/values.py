"""A stack in order, for tests that poison one value of it."""

from deploy.local.doctor.values import (
    DeviceRecord,
    EndpointRecord,
    MemberRecord,
    NodeRecord,
    NodeState,
    Records,
    RequestRecord,
    StackState,
    UnitFile,
    UsageRecord,
    WorkerRecord,
)

OPEN = RequestRecord("open", "ASSIGNED", None, False, -500.0, 0.5, 100.0)
ENDED = RequestRecord("ended", "ENDED", "length", True, 90_000.0, 80_000.0, 90_600.0)
DEVICE = DeviceRecord("node-0", 0, memory_bytes=1000, reserved_bytes=1000)
ENTRY = WorkerRecord(
    id="entry",
    endpoint_id="endpoint",
    node_id="node-0",
    stage_index=0,
    first_layer=0,
    last_layer=2,
    tenant="us",
    is_finished=False,
    is_desired=True,
    has_reservation=True,
    has_end=False,
    pid=10,
)
ENDPOINT = EndpointRecord(
    id="endpoint",
    tenant="us",
    is_serving=True,
    is_finished=False,
    has_end=False,
    num_layers=2,
    members=(),
)
MEMBER = MemberRecord("entry", is_entry=True, first_layer=0, last_layer=2)
USAGE = UsageRecord("us", "model", num_requests=3, num_accounted=4, least=0)
CACHED = UnitFile("a" * 64, None, True, 30, 30, 30, "a" * 64)
ARRIVING = UnitFile("b" * 64, None, False, 30, 10, 20)
NODE = NodeRecord("node-0", 5, 5, 4, frozenset({CACHED.digest}))
NODE_STATE = NodeState("node-0", 1, frozenset({10}), (CACHED, ARRIVING))
RECORDS = Records(
    num_leaderships=1,
    requests=(OPEN, ENDED),
    devices=(DEVICE,),
    workers=(ENTRY,),
    endpoints=(ENDPOINT,),
    usage=(USAGE,),
    nodes=(NODE,),
)
IN_ORDER = StackState(RECORDS, (NODE_STATE,))
