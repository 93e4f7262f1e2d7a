"""The largest messages that the system makes at its full size fit into one of the bus, with room.

1,000 nodes of 8 devices, up to 64 workers on one of them, 8,000 endpoints; ids and digests are as
long as they are made.
"""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from libs.common.bus.handling import decode, encode
from libs.common.bus.messages import (
    AgentHeartbeat,
    FetchSpec,
    GatewayHeartbeat,
    ImportProgressed,
    ListWaiting,
    Logprob,
    Message,
    ModelsChanged,
    ModelSummary,
    NodeDesired,
    RequestsEnded,
    Step,
    TokensGenerated,
    UnacknowledgedEnd,
    UnitSummary,
    WorkerObserved,
)
from libs.common.ids import new_id
from libs.common.states import FetchClass, FetchPurpose, ImportState, WorkerState
from services.gateway.generation.dispatcher import MAX_PROGRESSED
from services.gateway.settings import MAX_OPEN_REQUESTS
from services.scheduler.intake.import_ends import MAX_ANNOUNCED
from services.worker.agent.agent import MAX_UNACKNOWLEDGED
from services.worker.agent.requests.token_log import RESEND_TOKENS
from tests.unit.worker.values import worker_spec

MIB = 2**20
MOMENT = datetime(2026, 1, 1, 1, 1, 1, 123456, tzinfo=UTC)


def digest() -> str:
    return secrets.token_hex(32)


def desired(num_workers: int, num_units: int) -> NodeDesired:
    units = [tuple(digest() for _ in range(num_units)) for _ in range(num_workers)]
    return NodeDesired(
        node_id=new_id("node"),
        leader_epoch=1,
        version=1,
        workers=tuple(
            worker_spec(new_id("worker"), endpoint_id=new_id("endpoint"), unit_digests=own)
            for own in units
        ),
        fetches=tuple(
            FetchSpec(
                fetch_id=new_id("fetch"),
                purpose=FetchPurpose.START,
                fetch_class=FetchClass.INTERACTIVE,
                manifest_digest=digest(),
                unit_digests=own,
            )
            for own in units
        ),
        stopped_workers=tuple(new_id("worker") for _ in range(64)),
    )


def agent_heartbeat() -> AgentHeartbeat:
    steps = tuple(
        Step(name=f"step {number}", started_at=MOMENT, ended_at=MOMENT, detail="x" * 50)
        for number in range(12)
    )
    workers = (
        WorkerObserved(
            worker_id=new_id("worker"),
            endpoint_id=new_id("endpoint"),
            state=WorkerState.READY,
            steps=steps,
        )
        for _ in range(64)
    )
    ends = (
        UnacknowledgedEnd(request_id=f"{new_id('req')}-31", attempt=1, num_generated_tokens=10**6)
        for _ in range(MAX_UNACKNOWLEDGED)
    )
    return AgentHeartbeat(
        node_id=new_id("node"),
        boot_id=new_id("boot"),
        sequence=10**6,
        accepted_version=10**6,
        devices=(),
        workers=tuple(workers),
        unacknowledged=tuple(ends),
    )


def gateway_heartbeat() -> GatewayHeartbeat:
    ids = tuple(f"{new_id('req')}-31" for _ in range(MAX_OPEN_REQUESTS))
    progressed = dict.fromkeys(ids[:MAX_PROGRESSED], 10)
    return GatewayHeartbeat(gateway_id=new_id("gateway"), request_ids=ids, progressed=progressed)


def tokens() -> TokensGenerated:
    top = tuple((200_000 + number, -12.345678901234567) for number in range(20))
    entry = Logprob(logprob=-12.345678901234567, top=top)
    return TokensGenerated(
        request_id=new_id("req"),
        attempt=1,
        start_index=10**6,
        ids=(200_000,) * RESEND_TOKENS,
        logprobs=(entry,) * RESEND_TOKENS,
    )


def import_progress() -> ImportProgressed:
    summary = ModelSummary(
        architecture="LlamaForCausalLM",
        dtype="BF16",
        num_layers=200,
        vocab_size=200_000,
        max_context_tokens=10**6,
        kv_bytes_per_token=10**6,
        weight_bytes=10**12,
        eos_token_ids=(1, 2, 3),
        units=tuple(
            UnitSummary(kind="layer", layer=layer, digest=digest(), size_bytes=10**10)
            for layer in range(203)
        ),
        tokenizer_files={name: (digest(), 10**7) for name in ("a.json", "b.json", "c.jinja")},
    )
    return ImportProgressed(
        model_id=new_id("model"),
        import_id=new_id("import"),
        node_id=new_id("node"),
        state=ImportState.DONE,
        summary=summary,
    )


@pytest.mark.parametrize(
    ("make", "max_bytes"),
    [
        (lambda: desired(8, 83), MIB // 20),
        (lambda: desired(64, 83), MIB // 2),
        (agent_heartbeat, MIB // 2),
        (gateway_heartbeat, MIB * 8 // 10),
        (lambda: ListWaiting(gateway_id="g", attempts={new_id("req"): 1 for _ in range(512)}), MIB),
        (lambda: RequestsEnded(gateway_id="g", request_ids=(new_id("req"),) * 500), MIB // 20),
        (lambda: ModelsChanged(model_ids=(new_id("model"),) * MAX_ANNOUNCED), MIB // 20),
        (tokens, MIB // 4),
        (import_progress, MIB // 20),
    ],
    ids=[
        "a device a worker of an 80-layer model each",
        "64 workers of one",
        "an agent with 64 workers that start",
        "a gateway with all that it may have open",
        "requests that wait",
        "requests that ended",
        "models that changed",
        "tokens that are sent again, with 20 alternatives each",
        "a model of 200 layers",
    ],
)
def test_the_largest_messages_fit(make: Callable[[], Message], max_bytes: int) -> None:
    message = make()

    data = encode(message)

    assert len(data) <= max_bytes
    assert decode(type(message), data) == message


def test_units_that_workers_and_fetches_share_are_in_a_message_once() -> None:
    own = tuple(digest() for _ in range(80))
    message = desired(8, 1)
    workers = tuple(w.model_copy(update={"unit_digests": own}) for w in message.workers)
    shared = message.model_copy(update={"workers": workers})

    data = encode(shared)

    assert len(data) < len(encode(desired(8, 80))) / 2
    assert decode(NodeDesired, data) == shared


def test_what_an_earlier_version_sent_is_understood() -> None:
    message = desired(2, 3)
    plain = {**dict(message)}
    document = {
        key: [dict(item) for item in value] if key in ("workers", "fetches") else value
        for key, value in plain.items()
    }

    assert NodeDesired.model_validate(document) == message


@pytest.mark.parametrize(
    "changes",
    [{"unit_digests": "AAAA"}, {"unit_digests": 5}, {"unit_digests": ""}, {"workers": [{}]}],
    ids=["cut off", "no text", "too short", "a worker without units"],
)
def test_a_table_that_is_not_what_was_sent_is_refused(changes: dict[str, object]) -> None:
    document = desired(1, 2).model_dump(mode="json")

    with pytest.raises(ValueError):
        NodeDesired.model_validate({**document, **changes})
