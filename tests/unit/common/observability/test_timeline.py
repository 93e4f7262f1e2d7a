"""Cold starts as people see them: who waited for whom, what the time went to, bars in order."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.observability.criticalpath import Failure, Segment, critical_path
from libs.common.observability.timeline import (
    ActorKind,
    Interval,
    TimedStep,
    gantt_rows,
    last_moment_s,
    main_steps,
)
from libs.common.observability.timeshares import Part, Share, describe_shares, share_of, shares


def step(actor: str, name: str, start_s: float, end_s: float | None, stage: int = 0) -> TimedStep:
    is_scheduler = actor == "scheduler"
    node_id, stage_index = (None, None) if is_scheduler else (f"node-{stage}", stage)
    return TimedStep(actor, name, node_id, stage_index, start_s, end_s)


# Measured: 269 MB over 50 MB/s, then the same from the host cache.
FROM_STORE = (
    step("scheduler", "queue", -0.016, 0.0),
    step("scheduler", "plan", 0.0, 0.0),
    step("scheduler/w0", "tell fetcher", 0.060, 0.066),
    step("scheduler/w0", "tell agent", 0.061, 0.067),
    step("w0", "spawn", 0.063, 0.245),
    step("fetch/w0", "fetch.first_byte", 0.078, 0.129),
    step("fetch/w0", "fetch", 0.078, 5.480),
    step("fetch/w0", "fetch.readable_100%", 0.078, 5.480),
    step("w0", "map_units", 0.245, 0.276),
    step("w0", "import", 0.247, 3.915),
    step("w0", "weights", 0.277, 5.483),
    step("w0", "build_engine", 3.915, 3.933),
    step("w0", "load", 3.933, 5.517),
    step("w0", "first_token", 5.517, 5.517),
    step("w0", "ready", 5.518, 5.518),
)
FROM_CACHE = (
    step("scheduler", "queue", -0.008, 0.0),
    step("scheduler", "plan", 0.0, 0.0),
    step("scheduler/w0", "tell fetcher", 0.037, 0.041),
    step("scheduler/w0", "tell agent", 0.037, 0.041),
    step("fetch/w0", "fetch", 0.038, 0.051),
    step("w0", "spawn", 0.041, 0.205),
    step("w0", "map_units", 0.205, 0.238),
    step("w0", "import", 0.205, 2.362),
    step("w0", "weights", 0.238, 0.238),
    step("w0", "build_engine", 2.362, 2.368),
    step("w0", "load", 2.368, 2.494),
    step("w0", "ready", 2.495, 2.495),
    step("w0", "first_token", 2.495, 2.600),
)


def names(path: tuple[Segment, ...]) -> list[str]:
    return [segment.step.name for segment in path]


def test_a_start_that_waits_for_weights_is_spent_on_the_network() -> None:
    path = critical_path(FROM_STORE)

    assert names(path) == ["queue", "tell fetcher", "fetch", "weights", "load"]
    assert describe_shares(shares(path)) == "98 % network, 1 % scheduling, 1 % loading"


def test_a_start_that_waits_for_imports_is_spent_on_the_runtime() -> None:
    path = critical_path(FROM_CACHE)

    assert names(path) == [
        *("queue", "tell agent", "spawn", "import", "build_engine", "load", "ready", "first_token")
    ]
    assert describe_shares(shares(path)) == (
        "89 % runtime, 5 % loading, 4 % prefill, 2 % scheduling"
    )


def test_a_launch_that_waited_for_its_weights_lies_behind_the_fetch() -> None:
    path = critical_path(
        (
            step("scheduler", "queue", -0.01, 0.0),
            step("scheduler/w0", "tell fetcher", 0.02, 0.03),
            step("fetch/w0", "fetch", 0.03, 5.40),
            step("scheduler/w0", "tell agent", 5.45, 5.47),
            step("w0", "spawn", 5.46, 5.60),
            step("w0", "import", 5.60, 6.60),
            step("w0", "prefill", 6.60, 6.70),
            step("w0", "first_token", 6.70, 6.71),
        )
    )

    assert names(path) == [
        *("queue", "tell fetcher", "fetch", "tell agent", "spawn", "import"),
        *("prefill", "first_token"),
    ]
    assert describe_shares(shares(path)).startswith("80 % network, 17 % runtime")


def test_of_two_stages_the_slower_one_is_named() -> None:
    slower = tuple(
        step(actor.replace("w0", "w1"), name, start_s, end_s, stage=1)
        for actor, name, start_s, end_s in (
            ("scheduler/w0", "tell fetcher", 0.04, 0.05),
            ("fetch/w0", "fetch", 0.05, 4.0),
            ("w0", "import", 0.1, 2.0),
            ("w0", "load", 2.0, 4.1),
            ("w0", "ready", 4.101, 4.101),
        )
    )
    first_token = step("w0", "first_token", 2.495, 4.3)

    path = critical_path((*FROM_CACHE[:-1], *slower, first_token))

    assert [(segment.step.name, segment.step.stage_index) for segment in path] == [
        ("queue", None),
        *(("tell fetcher", 1), ("fetch", 1), ("load", 1), ("first_token", 0)),
    ]


# Two stages: the first waits for its weights, then the prompt goes round.
ROUND = (
    step("scheduler", "queue", -0.01, 0.0),
    *(step("fetch/w0", "fetch", 0.0, 1.0), step("w0", "import", 0.0, 0.6)),
    *(step("fetch/w1", "fetch", 0.0, 0.9, 1), step("w1", "import", 0.0, 0.6, 1)),
    *(step("w0", "prefill", 0.7, 1.1), step("w0", "head", 1.5, 1.6)),
    *(step("w0", "ready", 1.05, 1.05), step("w0", "first_token", 1.05, 1.61)),
    step("w1", "prefill", 1.2, 1.4, 1),
    step("w1", "prefill.received", 1.2, 1.2, 1),
    step("w1", "load", 0.6, 1.09, 1),
)
HOPS = (step("w1", "hop", 1.1, 1.2, 1), step("w0", "hop", 1.4, 1.5))


def test_the_way_of_the_prompt_is_named_stage_by_stage_and_hop_by_hop() -> None:
    path = critical_path((*ROUND, *HOPS))

    assert [(part.step.name, part.step.stage_index) for part in path] == [
        *(("queue", None), ("fetch", 0), ("prefill", 0), ("hop", 1), ("prefill", 1)),
        *(("hop", 0), ("head", 0), ("first_token", 0)),
    ]
    assert [round(part.seconds, 3) for part in path] == [0.01, 1.0, 0.1, 0.1, 0.2, 0.1, 0.1, 0.01]
    assert {share_of(part.step) for part in path if part.step.name == "hop"} == {Share.HOP}


def test_what_ended_before_the_agent_told_of_the_token_did_not_hold_it_up() -> None:
    told_late = step("w0", "first_token", 1.9, 1.9)
    others = [s for s in ROUND if s.name not in ("first_token", "ready")]
    steps = (*others, step("w0", "load", 0.7, 1.8), told_late)

    path = critical_path((*steps, *HOPS))

    assert [part.step.name for part in path][-3:] == ["hop", "head", "first_token"]


def test_a_hop_to_a_stage_that_was_not_built_is_that_stages_wait() -> None:
    late = tuple(s for s in ROUND if (s.actor, s.name) != ("w1", "import"))
    steps = (*late, step("w1", "import", 0.0, 1.19, 1))

    path = critical_path((*steps, *HOPS))

    assert [(part.step.name, part.step.stage_index) for part in path][:3] == [
        *(("queue", None), ("import", 1), ("hop", 1)),
    ]


def test_a_hop_between_clocks_that_differ_takes_no_time_but_joins_the_stages() -> None:
    fast = [
        replace(s, start_s=s.start_s - 0.15, end_s=s.end_s - 0.15)
        if s.actor == "w1" and s.name.startswith("prefill") and s.end_s is not None
        else s
        for s in ROUND
    ]

    there, back = step("w1", "hop", 1.05, 1.05, 1), step("w0", "hop", 1.25, 1.5)
    path = critical_path((*fast, there, back))

    assert [(part.step.name, part.step.stage_index) for part in path][-5:] == [
        *(("prefill", 0), ("prefill", 1), ("hop", 0), ("head", 0), ("first_token", 0)),
    ]


def test_a_stage_that_could_not_be_linked_waited_for_its_neighbour() -> None:
    path = critical_path(
        (
            *(step("w0", "spawn", 0.0, 0.2), step("w0", "bind", 0.2, 0.3)),
            step("w0", "load", 0.3, 0.5),
            *(step("w0", "connect", 0.3, 2.1), step("w0", "linked", 2.1, 2.2)),
            *(step("w1", "spawn", 0.0, 1.9, 1), step("w1", "bind", 1.9, 2.0, 1)),
            step("w0", "ready", 2.2, 2.2),
        )
    )

    assert [(segment.step.actor, segment.step.name) for segment in path] == [
        *(("w1", "spawn"), ("w1", "bind"), ("w0", "connect"), ("w0", "linked")),
    ]


def test_a_stage_that_came_after_the_first_token_held_nothing_up() -> None:
    late = step("w1", "import", 0.1, 3.0, stage=1)

    assert critical_path((*FROM_CACHE, late)) == critical_path(FROM_CACHE)


def test_what_still_runs_is_waited_for_until_now() -> None:
    running = (*FROM_STORE[:6], step("fetch/w0", "fetch", 0.078, None))

    path = critical_path(running, now_s=3.0)

    assert path[-1].step.name == "fetch"
    assert path[-1].interval.end_s == 3.0


def test_a_step_that_nobody_here_knows_counts_as_runtime() -> None:
    path = critical_path((step("w0", "spawn", 0.0, 1.0), step("w0", "warm_up", 1.0, 3.0)))

    assert names(path) == ["spawn", "warm_up"]
    assert [(part.share, part.seconds) for part in shares(path)] == [(Share.RUNTIME, 3.0)]


def test_without_steps_there_is_no_path() -> None:
    assert critical_path(()) == ()
    assert shares(()) == ()
    assert describe_shares(()) == ""


def test_shares_that_round_to_nothing_are_not_named() -> None:
    parts = (Part(Share.NETWORK, 99.9, 0.999), Part(Share.PREFILL, 0.1, 0.001))

    assert describe_shares(parts) == "100 % network"


@pytest.mark.parametrize(
    ("actor", "kind", "who"),
    [
        ("scheduler", ActorKind.SCHEDULER, "scheduler"),
        ("scheduler/w0", ActorKind.DELIVERY, "scheduler node-0"),
        ("fetch/fetch-0", ActorKind.FETCHER, "fetcher node-0"),
        ("w0", ActorKind.WORKER, "worker node-0"),
    ],
)
def test_an_actors_name_says_what_it_is(actor: str, kind: ActorKind, who: str) -> None:
    found = step(actor, "x", 0, 1)

    assert (found.kind, found.who) == (kind, who)


def test_bars_go_stage_by_stage_and_know_their_critical_part() -> None:
    second = step("w1", "spawn", 0.01, 2.0, stage=1)
    path = critical_path(FROM_STORE)

    rows = gantt_rows((second, *FROM_STORE), [segment.step for segment in path])

    assert [row.step.stage_index for row in rows] == [None] * 2 + [0] * (len(rows) - 3) + [1]
    assert not any(row.step.is_milestone for row in rows)
    fetch = next(row for row in rows if row.step.name == "fetch")
    assert fetch.interval == Interval(0.078, 5.480)
    assert fetch.is_critical
    assert next(row for row in rows if row.step.name == "import").is_critical is False


def test_the_main_steps_are_the_long_ones_and_those_that_others_waited_for() -> None:
    short, running = step("w0", "map_units", 0.5, 0.6), step("w0", "load", 1.0, None)
    steps = (short, step("w0", "import", 0.0, 10.0), running, step("w1", "bind", 9.0, 9.1, 1))

    main = main_steps(steps, critical=[short], min_fraction=0.05)

    assert [step.name for step in main] == ["map_units", "import", "load"]


def test_a_running_steps_bar_reaches_to_the_last_known_moment() -> None:
    (first, second) = gantt_rows((step("w0", "a", 0, 4), step("w0", "b", 1, None)), [])

    assert (first.is_running, second.is_running) == (False, True)
    assert second.interval.end_s == 4


# Stage 1 was killed while it imported; stage 0 had nothing to do but to wait for it.
FAILED_START = (
    step("scheduler", "queue", -0.01, 0.0),
    step("scheduler", "plan", 0.0, 0.01),
    step("scheduler/w0", "tell agent", 0.02, 0.03),
    step("scheduler/w1", "tell agent", 0.02, 0.03, 1),
    step("w0", "spawn", 0.03, 0.1),
    step("w0", "connect", 0.2, 0.4),
    step("w0", "linked", 0.4, 1.3),
    step("w1", "spawn", 0.03, 0.1, 1),
    step("w1", "import", 0.1, 1.2, 1),
    step("w1", "weights", 0.15, 1.2, 1),
    step("w1", "connect", 0.2, 1.2, 1),
    step("fetch/w1", "fetch", 0.05, 0.9, 1),
)


def test_of_a_start_that_failed_the_path_ends_in_what_failed() -> None:
    path = critical_path(FAILED_START, failure=Failure("w1"))

    assert [(part.step.actor, part.step.name) for part in path[-2:]] == [
        ("w1", "spawn"),
        ("w1", "import"),
    ]
    assert (path[0].step.name, path[-1].interval.end_s) == ("queue", 1.2)


@pytest.mark.parametrize("guilty", ["w10", None])
def test_a_failure_of_which_nobody_can_say_where_it_began_has_no_path(guilty: str | None) -> None:
    assert critical_path(FAILED_START, failure=Failure(guilty)) == ()


def test_a_fetch_that_failed_before_its_worker_was_launched_is_what_the_path_ends_in() -> None:
    steps = (
        step("scheduler", "plan", 0.0, 0.01),
        step("scheduler/fetch-0", "tell fetcher", 0.02, 0.03),
        step("fetch/fetch-0", "fetch", 0.03, 2.0),
    )

    path = critical_path(steps, failure=Failure("worker-0"))

    assert names(path) == ["plan", "tell fetcher", "fetch"]


def test_a_fetch_belongs_to_the_worker_of_its_stage_whatever_its_id() -> None:
    renamed = [replace(s, actor=s.actor.replace("fetch/w0", "fetch/fetch-0")) for s in FROM_STORE]

    assert names(critical_path(renamed)) == names(critical_path(FROM_STORE))


_WORKERS = ("w0", "w1", "w2")
_HEADS = ("", "fetch/", "scheduler/")
_ACTORS = st.one_of(
    st.just("scheduler"),
    st.builds(
        str.__add__, st.sampled_from(("", "fetch/", "scheduler/")), st.sampled_from(_WORKERS)
    ),
)
_NAMES = st.sampled_from(
    [
        *("queue", "plan", "tell agent", "tell fetcher", "fetch", "fetch.first_byte", "spawn"),
        *("bind", "connect", "linked"),
        *("import", "map_units", "weights", "load", "prefill", "ready", "first_token", "other"),
        *("prefill.received", "hop", "head"),
    ]
)
_SECONDS = st.floats(-10, 1000)


def test_a_step_that_ends_at_zero_has_ended() -> None:
    assert last_moment_s([step("scheduler", "queue", -1.0, 0.0)]) == 0.0


@st.composite
def any_step(draw: st.DrawFn) -> TimedStep:
    start_s = draw(_SECONDS)
    end_s = draw(st.none() | st.floats(start_s, 2000))
    return step(draw(_ACTORS), draw(_NAMES), start_s, end_s, draw(st.integers(0, 3)))


@given(
    st.lists(any_step(), max_size=30, unique_by=lambda s: (s.actor, s.name)),
    st.none() | st.builds(Failure, st.sampled_from((None, "w1", "w9"))),
)
def test_whatever_was_reported_the_path_is_one_line_without_gaps(
    steps: list[TimedStep], failure: Failure | None
) -> None:
    path = critical_path(steps, failure=failure)

    for earlier, later in pairwise(path):
        assert earlier.interval.end_s == later.interval.start_s
    assert all(segment.seconds > 0 for segment in path)
    assert len({(s.step.actor, s.step.name) for s in path}) == len(path)
    if path:
        assert sum(part.fraction for part in shares(path)) == pytest.approx(1)
        assert path[-1].interval.end_s <= last_moment_s(steps)
        assert {share_of(segment.step) for segment in path} == {part.share for part in shares(path)}


@given(st.lists(any_step(), max_size=30, unique_by=lambda s: (s.actor, s.name)))
def test_the_order_in_which_steps_are_reported_does_not_matter(steps: list[TimedStep]) -> None:
    assert gantt_rows(steps, []) == gantt_rows(list(reversed(steps)), [])
    assert critical_path(steps) == critical_path(list(reversed(steps)))
