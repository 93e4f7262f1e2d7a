import asyncio
import json
import struct
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.causes import MAX_FACTS, Cause, CauseKind
from libs.common.sampling import SamplingParameters
from libs.common.states import ConsolidationPhase, FinishReason
from libs.common.token_ids import TokenIds
from services.worker.agent.processes.frame_connection import read_body
from services.worker.errors import FrameError
from services.worker.frames.consolidation import (
    AbandonConsolidation,
    Consolidate,
    ConsolidationChanged,
    RequestPause,
    SwitchMeasured,
)
from services.worker.frames.dataplane import DataPlaneOptions, Neighbour, Security
from services.worker.frames.frames import (
    HEADER_BYTES,
    MAX_FRAME_BYTES,
    CancelGeneration,
    ConnectPeers,
    DecodeTime,
    Frame,
    GenerateTokens,
    Ready,
    Registered,
    StartWorker,
    StatsChanged,
    StepTaken,
    TokenLogprob,
    TokensProduced,
    WorkerFailed,
    body_length,
    decode_to_agent,
    decode_to_worker,
    encode,
)

SAMPLING = SamplingParameters(
    max_tokens=16,
    seed=2**64 - 1,
    temperature=0.7,
    top_p=0.9,
    stop_token_ids=(2, 7),
    ignore_eos=False,
)
START = StartWorker(
    worker_id="worker-a",
    manifest_digest="0" * 64,
    unit_digests=("1" * 64,),
    stage_index=0,
    num_stages=1,
    first_layer=0,
    last_layer=2,
    device="cpu",
    device_bytes=1000,
    kv_bytes=100,
    max_slots=4,
    max_context_tokens=128,
    cores=1,
    start_timeout_ms=30_000,
    fetcher_socket="/sockets/fetcher.sock",
)
ADJUSTED = replace(
    SAMPLING,
    top_k=40,
    min_p=0.05,
    min_tokens=3,
    repetition_penalty=1.1,
    presence_penalty=-2.0,
    frequency_penalty=2.0,
    logit_bias=((5, -100.0), (6, 0.5)),
)
TO_WORKER: list[Frame] = [
    START,
    replace(
        START, data_plane=DataPlaneOptions(Security.TRUSTED, "10.0.0.1", "/sockets/nic.ledger")
    ),
    replace(START, max_threads=8),
    ConnectPeers(
        Neighbour(2, "tcp://10.0.0.2:4000", "p" * 40), Neighbour(1, "tcp://10.0.0.3:4000", "n" * 40)
    ),
    GenerateTokens("request-a", 1, TokenIds((1, 2, 3)), TokenIds(), SAMPLING),
    GenerateTokens("request-a", 2, TokenIds((1, 2, 3)), TokenIds((4, 5)), ADJUSTED),
    CancelGeneration("request-a", 1),
    Consolidate(2, 1, ("1" * 64, "2" * 64), kv_bytes=640, timeout_ms=1000),
    AbandonConsolidation(2, 1),
]
SWITCH = SwitchMeasured(2, 1, False, 2, 4000, 500, drain_s=0.25, move_s=0.5, predicted_move_s=1.5)
TO_AGENT: list[Frame] = [
    Registered(None, None),
    Registered("127.0.0.1:4000", "key"),
    StepTaken("import", 1.5, None),
    StepTaken("import", 1.5, 2.5, "torch"),
    Ready(),
    TokensProduced("request-a", 1, 0, (5,)),
    TokensProduced("request-a", 1, 1, (6,), (TokenLogprob(-0.5, ((6, -0.5), (7, -1.25))),)),
    TokensProduced("request-a", 1, 2, (), None, FinishReason.ERROR, "out of memory"),
    StatsChanged(1, 2, 3),
    StatsChanged(1, 2, 3, 4, step_us=5, progress=6),
    StatsChanged(1, 2, 3, compute_share=0.5, compute_demand=1.0),
    ConsolidationChanged(2, 1, ConsolidationPhase.LOADING),
    ConsolidationChanged(3, 4, ConsolidationPhase.ABANDONED, "the layers did not come"),
    SWITCH,
    replace(SWITCH, pauses=(RequestPause("r1", 0.5), RequestPause("r2", 0.25, usual_gap_s=0.125))),
    WorkerFailed(Cause(CauseKind.UNKNOWN)),
    WorkerFailed(Cause(CauseKind.NEIGHBOUR_MISSING, {"own_stage": 1, "seconds": 2.5, "it": True})),
]


@pytest.mark.parametrize("frame", TO_WORKER, ids=lambda frame: type(frame).__name__)
def test_a_frame_for_the_worker_survives_the_way(frame: Frame) -> None:
    assert decode_to_worker(encode(frame)[HEADER_BYTES:]) == frame


@pytest.mark.parametrize("frame", TO_AGENT, ids=lambda frame: type(frame).__name__)
def test_a_frame_for_the_agent_survives_the_way(frame: Frame) -> None:
    assert decode_to_agent(encode(frame)[HEADER_BYTES:]) == frame


def test_figures_of_the_engine_survive_the_way_though_they_are_no_part_of_the_load() -> None:
    times = (DecodeTime(1, 7), DecodeTime(16, 9))
    frame = StatsChanged(1, 2, 3, step_us=5, prefill_us_per_token=0.25, decode_times=times)

    found = decode_to_agent(encode(frame)[HEADER_BYTES:])

    assert frame == found == StatsChanged(1, 2, 3)
    assert isinstance(found, StatsChanged)
    assert (found.step_us, found.prefill_us_per_token, found.decode_times) == (5, 0.25, times)


def test_the_header_says_the_length_of_the_body() -> None:
    data = encode(Ready())
    assert body_length(data[:HEADER_BYTES]) == len(data) - HEADER_BYTES


def test_a_worker_cannot_send_what_only_the_agent_may() -> None:
    with pytest.raises(FrameError, match="kind"):
        decode_to_agent(encode(CancelGeneration("request-a", 1))[HEADER_BYTES:])


def test_a_length_over_the_limit_is_refused_before_anything_is_read() -> None:
    with pytest.raises(FrameError, match="limit"):
        body_length(struct.pack(">I", MAX_FRAME_BYTES + 1))


def test_a_frame_over_the_limit_is_not_sent() -> None:
    with pytest.raises(FrameError, match="over the limit"):
        encode(StepTaken("import", 1.0, None, "x" * (MAX_FRAME_BYTES + 1)))


@pytest.mark.parametrize(
    ("body", "named"),
    [
        pytest.param(b"", "JSON", id="empty"),
        pytest.param(b"\xff\xfe", "JSON", id="no UTF-8"),
        pytest.param(b"[]", "JSON object", id="no object"),
        pytest.param(b"[" * 100_000, "JSON", id="too deep"),
        pytest.param(b'{"kind":"Ready"}', "an object", id="no body"),
        pytest.param(b'{"kind":"Ready","body":{},"x":1}', "only the fields", id="more fields"),
        pytest.param(b'{"kind":"Ready","body":{"x":1}}', "no field", id="unknown body field"),
        pytest.param(b'{"kind":"Halt","body":{}}', "kind", id="unknown kind"),
        pytest.param(b'{"kind":"WorkerFailed","body":{}}', "cause", id="missing field"),
        pytest.param(
            b'{"kind":"WorkerFailed","body":{"cause":{"kind":"bad_luck"}}}',
            "one of",
            id="unknown kind of cause",
        ),
        pytest.param(
            b'{"kind":"WorkerFailed","body":{"cause":{"kind":"unknown","facts":{"a":[1]}}}}',
            "facts: expected one of str, int",
            id="a list is no fact",
        ),
        pytest.param(
            b'{"kind":"WorkerFailed","body":{"cause":{"kind":"unknown","facts":{"a":"\\u0000"}}}}',
            "no column holds",
            id="a fact that cannot be stored",
        ),
        pytest.param(
            b'{"kind":"StatsChanged","body":{"num_running":true,"num_waiting":0,"kv_used_bytes":0}}',
            "num_running",
            id="a truth value is no number",
        ),
        pytest.param(
            b'{"kind":"StatsChanged","body":{"num_running":0,"num_waiting":0,"kv_used_bytes":0,'
            b'"step_us":1.5}}',
            "step_us",
            id="a fraction is no whole number",
        ),
        pytest.param(
            b'{"kind":"StepTaken","body":{"name":"a","started_at_s":NaN,"ended_at_s":null}}',
            "NaN",
            id="no number",
        ),
        pytest.param(
            b'{"kind":"StepTaken","body":{"name":"a","ended_at_s":null,"started_at_s":1'
            + b"0" * 400
            + b"}}",
            "double",
            id="a number no double holds",
        ),
    ],
)
def test_what_is_no_frame_is_refused_by_name(body: bytes, named: str) -> None:
    with pytest.raises(FrameError, match=named):
        decode_to_agent(body)


CAUSES = st.builds(
    Cause,
    st.sampled_from(CauseKind),
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
        st.booleans()
        | st.integers(-(2**63) + 1, 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
        max_size=MAX_FACTS,
    ),
)


@given(CAUSES)
def test_any_cause_survives_the_way_with_the_types_of_its_facts(cause: Cause) -> None:
    frame = decode_to_agent(encode(WorkerFailed(cause))[HEADER_BYTES:])

    assert isinstance(frame, WorkerFailed) and frame.cause == cause
    kinds = {name: type(fact) for name, fact in frame.cause.facts.items()}
    assert kinds == {name: type(fact) for name, fact in cause.facts.items()}


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    "fields", [{"generation": 1}, {"attempt": 0}, {"timeout_ms": 0}], ids=lambda f: next(iter(f))
)
def test_a_target_that_no_endpoint_can_have_is_no_frame(fields: dict[str, int]) -> None:
    body = {"generation": 2, "attempt": 1, "unit_digests": [], "kv_bytes": 0, "timeout_ms": 1}
    document = {"kind": "Consolidate", "body": {**body, **fields}}
    with pytest.raises(FrameError, match="a generation after the first"):
        decode_to_worker(json.dumps(document).encode())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"drain_s": -0.1}, "is a time"),
        ({"move_s": -1}, "is a time"),
        ({"predicted_recompute_s": -1}, "is a time"),
        ({"moved_bytes": -1}, "is no number"),
        ({"num_sequences": -1}, "is no number"),
        ({"pauses": [{"request_id": "r", "pause_s": -0.5}]}, "a pause is a time"),
        ({"pauses": [{"request_id": "r", "pause_s": 1, "usual_gap_s": -1}]}, "a pause is a time"),
        ({"pauses": [{"request_id": "r", "pause_s": 1}] * 257}, "257 pauses are more than 256"),
    ],
    ids=str,
)
def test_a_switch_that_cannot_have_been_is_no_frame(fields: dict[str, object], named: str) -> None:
    document = json.loads(encode(SWITCH)[HEADER_BYTES:])
    document["body"] |= fields
    with pytest.raises(FrameError, match=named):
        decode_to_agent(json.dumps(document).encode())


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_frame_or_a_frame_error(body: bytes) -> None:
    for decode in (decode_to_agent, decode_to_worker):
        try:
            decode(body)
        except FrameError:
            continue


@given(st.sampled_from(TO_AGENT), st.data())
def test_a_frame_with_any_one_field_replaced_is_a_frame_or_a_frame_error(
    frame: Frame, data: st.DataObject
) -> None:
    document = json.loads(encode(frame)[HEADER_BYTES:])
    names = [field.name for field in fields(frame)] or ["kind"]
    document["body"][data.draw(st.sampled_from(names))] = data.draw(JSON_VALUES)
    try:
        decode_to_agent(json.dumps(document).encode())
    except FrameError:
        return


async def _stream(data: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    return reader


async def test_a_stream_that_ends_between_frames_ends_cleanly() -> None:
    reader = await _stream(encode(Ready()))
    body = await read_body(reader)
    assert body is not None and decode_to_agent(body) == Ready()
    assert await read_body(reader) is None


@pytest.mark.parametrize("num_bytes", range(1, len(encode(Ready()))))
async def test_a_stream_cut_inside_a_frame_is_an_error(num_bytes: int) -> None:
    reader = await _stream(encode(Ready())[:num_bytes])
    with pytest.raises(FrameError, match="inside"):
        await read_body(reader)
