"""Causes: whose fault each is, what people read, and that only what can be stored is one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from libs.common.bus.messages import FetchObserved, WorkerObserved
from libs.common.cause_words import words
from libs.common.causes import (
    ECHOES,
    FAULTS,
    MAX_FACTS,
    MAX_TEXT_CHARACTERS,
    Cause,
    CauseKind,
    Fact,
    Fault,
)
from libs.common.states import WorkerState

WHO = {"worker_id": "w-1", "node_id": "n-1"}
ALL_FACTS: dict[str, Fact] = {
    **{"detail": "why", "felt": "it stopped", "progress": "half", "state": "FAILED"},
    **{"signal": "SIGKILL", "last_words": "bye", "by": "agent", "key": "units/ab"},
    **{"own_stage": 1, "stage": 2, "seconds": 2.5, "step": "weights"},
}


@pytest.mark.parametrize("kind", CauseKind)
def test_every_kind_is_somebodys_fault_and_has_words_with_and_without_facts(
    kind: CauseKind,
) -> None:
    assert isinstance(Cause(kind).fault, Fault)
    for facts in ({}, WHO):
        said = words(Cause(kind, facts))
        assert said and "{" not in said
    some = list(ALL_FACTS.items())
    for part in (some[:MAX_FACTS], some[MAX_FACTS // 2 :]):
        assert words(Cause(kind, dict(part)))


@pytest.mark.parametrize(
    ("kind", "facts", "said"),
    [
        (CauseKind.NODE_LOST, WHO, "node n-1 is lost: its agent is silent"),
        (CauseKind.NODE_LOST, {}, "its node is lost: its agent is silent"),
        (
            CauseKind.AGENT_RESTARTED,
            WHO,
            "the agent of node n-1 restarted and its workers ended",
        ),
        (CauseKind.FETCHER_SILENT, WHO, "the fetcher of node n-1 is silent"),
        (
            CauseKind.NODE_SILENT,
            {**WHO, "felt": "it stopped"},
            "node n-1 with worker w-1 is silent: it stopped",
        ),
        (
            CauseKind.WORKER_VANISHED,
            WHO,
            "worker w-1 on node n-1 vanished from its agent's list",
        ),
        (
            CauseKind.WORKER_ENDED,
            {**WHO, "state": "STOPPED"},
            "worker w-1 on node n-1: it ended by itself (STOPPED)",
        ),
        (
            CauseKind.PROCESS_EXITED,
            {**WHO, "signal": "SIGKILL", "last_words": "a | b"},
            "worker w-1 on node n-1: the worker process was killed by SIGKILL: a | b",
        ),
        (
            CauseKind.PROCESS_EXITED,
            {"code": 3},
            "the worker process exited with code 3",
        ),
        (
            CauseKind.START_TIMED_OUT,
            {"own_stage": 1, "seconds": 60.0, "step": "weights"},
            "stage 1: not ready within 60 s (in step weights)",
        ),
        (
            CauseKind.ENGINE_HUNG,
            {**WHO, "own_stage": 0, "seconds": 0.25},
            "worker w-1 on node n-1: stage 0: the engine has not moved for 0.25 s",
        ),
        (
            CauseKind.UNIT_CORRUPT,
            {**WHO, "key": "units/ab", "detail": "chunk 1"},
            "the fetch for worker w-1 on node n-1 failed: units/ab: the stored bytes do not match "
            "their digest (chunk 1)",
        ),
        (CauseKind.UNIT_MISSING, {}, "the object store lacks one of its objects"),
        (CauseKind.PROCESS_HUNG, {"seconds": "long"}, "no sign of life"),
        (CauseKind.ENGINE_FAILED, {"detail": "{braces}"}, "{braces}"),
    ],
)
def test_people_read_what_happened_and_to_whom(
    kind: CauseKind, facts: dict[str, Fact], said: str
) -> None:
    assert words(Cause(kind, facts)) == said


def test_a_nodes_or_the_networks_fault_never_counts_against_the_model() -> None:
    counting = {kind for kind in CauseKind if Cause(kind).counts_against_model}

    assert {FAULTS[kind] for kind in counting}.isdisjoint({Fault.NODE, Fault.NETWORK})
    assert CauseKind.PROCESS_EXITED in counting and CauseKind.UNIT_CORRUPT in counting


def test_only_what_was_felt_from_elsewhere_is_an_echo() -> None:
    assert {kind for kind in CauseKind if Cause(kind).is_echo} == ECHOES
    assert CauseKind.STAGES_SEPARATED not in ECHOES, "it is what echoes without a root become"


@pytest.mark.parametrize(
    ("facts", "named"),
    [
        ({"a": "x" * (MAX_TEXT_CHARACTERS + 1)}, "1001 characters"),
        ({"a": "nul \x00"}, "no column holds"),
        ({"a": "\ud800"}, "no column holds"),
        ({"a": math.nan}, "finite"),
        ({"a": 2**63}, "too large"),
        ({"a": None}, "NoneType"),
        ({"no name": 1}, "no name"),
        ({"a" * 41: 1}, "no name"),
        ({f"fact_{i}": i for i in range(MAX_FACTS + 1)}, "at most 12"),
    ],
    ids=["long", "NUL", "surrogate", "NaN", "large", "none", "space", "long name", "many"],
)
def test_what_cannot_be_stored_is_no_cause_and_no_message_has_it(
    facts: dict[str, Fact], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        Cause(CauseKind.UNKNOWN, facts)
    with pytest.raises(ValidationError):
        FetchObserved.model_validate(
            {"fetch_id": "f", "state": "FAILED", "cause": {"kind": "unknown", "facts": facts}}
        )


def test_a_message_with_a_cause_that_has_more_than_kind_and_facts_is_refused() -> None:
    cause = {"kind": "unknown", "facts": {}, "blame": "you"}
    with pytest.raises(ValidationError, match="blame"):
        FetchObserved.model_validate({"fetch_id": "f", "state": "FAILED", "cause": cause})


@given(
    st.sampled_from(CauseKind),
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,12}", fullmatch=True),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        max_size=MAX_FACTS,
    ),
)
def test_whatever_was_seen_becomes_a_cause_that_survives_a_message(
    kind: CauseKind, facts: dict[str, Fact | None]
) -> None:
    cause = Cause.of(kind, **facts)
    sent = WorkerObserved(worker_id="w", endpoint_id="e", state=WorkerState.FAILED, cause=cause)

    heard = WorkerObserved.model_validate_json(sent.model_dump_json())

    assert heard.cause == cause
    assert words(cause)


def test_long_texts_lose_their_end_and_what_is_not_known_is_no_fact() -> None:
    cause = Cause.of(CauseKind.ENGINE_FAILED, detail="x\x00y" * 600, step=None)

    assert list(cause.facts) == ["detail"]
    assert cause.facts["detail"] == ("xy" * 600)[:MAX_TEXT_CHARACTERS]
    assert cause.with_facts(step="load").facts.keys() == {"detail", "step"}


@pytest.mark.parametrize("name", ["kind", "self", "cause", "who", "name", "facts"])
def test_a_fact_may_have_any_name_whoever_sent_it(name: str) -> None:
    sent = Cause(CauseKind.PROCESS_EXITED, {name: 7})

    completed = sent.with_facts(**WHO)

    assert completed == Cause(CauseKind.PROCESS_EXITED, {name: 7, **WHO})
    assert words(completed) == "worker w-1 on node n-1: the worker process ended"


def test_of_too_many_facts_those_that_were_added_last_stay() -> None:
    sent = Cause(CauseKind.PROCESS_EXITED, {f"fact_{i}": i for i in range(MAX_FACTS)})

    completed = sent.with_facts(**WHO)

    assert len(completed.facts) == MAX_FACTS
    assert completed.facts.items() >= WHO.items()
