"""Whoever is no neighbour is refused by every data socket of the running stack."""

import asyncio

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from services.worker.frames.dataplane import Neighbour, Security
from services.worker.runtime.dataplane.errors import NeighbourLost
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.sockets import make_keys, open_outlet
from services.worker.runtime.dataplane.watch import Neighbours
from services.worker.runtime.dataplane.wire import encode_hello
from tests.acceptance.pipeline.driving.disturbed_streams import NUM_STAGES, Models
from tests.acceptance.pipeline.driving.record import StageRow

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),
    pytest.mark.usefixtures("agents_are_known"),
]

NUM_TOKENS = 800
TIMEOUT_S = 10
_OUTCOMES = (
    zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


async def test_unauthorized_peers_are_refused_by_every_stage_and_the_stream_goes_on(
    models: Models,
) -> None:
    model = await models.fresh(keep_alive_s=60)
    stream = model.stream("go", NUM_TOKENS)
    await stream.until_text()

    for row in await model.stages():
        stage = as_neighbour(row)
        outcome = await asyncio.to_thread(outcome_for_fresh_keys, stage)
        assert outcome == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        with pytest.raises(NeighbourLost, match=f"stage {stage.stage}: it refused the connection"):
            await asyncio.to_thread(be_a_stage_of_another_endpoint, stage)

    before = [stage.id for stage in await model.stages()]
    await stream.is_exact()
    assert [stage.id for stage in await model.stages()] == before  # nobody was replaced
    await model.gone()


def as_neighbour(row: StageRow) -> Neighbour:
    assert row.address is not None and row.public_key is not None
    return Neighbour(row.stage_index, row.address, row.public_key)


def outcome_for_fresh_keys(stage: Neighbour) -> int:
    """How the handshake ends for somebody who knows everything that is public."""
    context = zmq.Context()
    try:
        outlet = open_outlet(context, Security.CURVE, make_keys(), stage)
        monitor = outlet.get_monitor_socket(_OUTCOMES)
        outlet.connect(stage.address)
        outlet.send(encode_hello((stage.stage - 1) % NUM_STAGES))
        assert monitor.poll(TIMEOUT_S * 1000), "the handshake does not end"
        return int(recv_monitor_message(monitor)["event"])
    finally:
        context.destroy(0)


def be_a_stage_of_another_endpoint(stage: Neighbour) -> None:
    """The real thing, with its own keys, which takes `stage` for its next one."""
    own = (stage.stage - 1) % NUM_STAGES
    with DataPlane(stage=own, host="127.0.0.1", security=Security.CURVE) as plane:
        previous = Neighbour((own - 1) % NUM_STAGES, plane.address, plane.keys.public)
        plane.connect(Neighbours(previous, stage))
        plane.wait_linked(TIMEOUT_S)
