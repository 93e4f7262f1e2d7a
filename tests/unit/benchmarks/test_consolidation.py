"""What `make bench-consolidation` makes of its samples, without a stack."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.consolidation.figures import median_interval, pause_of
from benchmarks.consolidation.record import SwitchRecord, record_of
from benchmarks.consolidation.samples import (
    Arrival,
    CostRun,
    LoadingRun,
    NeighbourRun,
    Samples,
    StreamSample,
    SwitchRun,
    TpotPair,
)
from benchmarks.consolidation.streams import Stream
from benchmarks.consolidation.summary import (
    DEFINITIONS,
    KEYS,
    TARGETS,
    details_of,
    loading_ratios,
    summary_of,
)

# The pipeline loads from 1 s to 5 s, and is one worker 10 s after its first token at 0.
RECORD = SwitchRecord(
    first_token_at_s=0.0,
    loading_at_s=1.0,
    loaded_at_s=5.0,
    frozen_at_s=9.9,
    drained_at_s=9.95,
    moved_at_s=10.0,
    stepped_at_s=10.2,
    num_moved=2,
    num_recomputed=0,
    precopied_bytes=1000,
    moved_bytes=10,
)
PROMPT = 400


def stream(
    step_s: float, *, end_s: float, pause_s: float = 0.0, held_back: frozenset[int] = frozenset()
) -> StreamSample:
    """A token each `step_s` from 0 on, `pause_s` later from the first one after 10 s on. Those that
    are held back come with the next."""
    arrivals, number = [], 0
    while (at_s := number * step_s) <= end_s:
        number += 1
        if number not in held_back:
            arrivals.append(Arrival(at_s + (pause_s if at_s > 10.0 else 0.0), number))
    return StreamSample(PROMPT, tuple(arrivals))


def test_a_pause_is_what_the_switch_adds_to_an_ordinary_gap() -> None:
    pause = pause_of(stream(0.25, end_s=12.0, pause_s=0.125), RECORD)

    assert pause is not None
    assert pause.gap_s == pytest.approx(0.375)
    assert pause.ordinary_s == pytest.approx(0.25)
    assert pause.added_s == pytest.approx(0.125)
    assert pause.num_context_tokens == PROMPT + 41, "it had a token at 0, and each quarter second"


def test_tokens_that_came_together_are_no_ordinary_gap() -> None:
    """Every second one is held back."""
    held_back = frozenset(range(2, 38, 2))
    pause = pause_of(stream(0.25, end_s=12.0, held_back=held_back), RECORD)

    assert pause is not None
    assert pause.ordinary_s == pytest.approx(0.25)
    assert pause.added_s == 0.0


def test_a_stream_that_had_ended_has_no_pause() -> None:
    assert pause_of(stream(0.25, end_s=9.0), RECORD) is None


def test_loading_is_compared_with_the_window_before_it_and_with_pipelines_that_load_nothing() -> (
    None
):
    """0.125 s after 0.1 s, where 0.11 s come after 0.1 s anyway."""
    runs = [
        LoadingRun(0, True, (0.1, 0.1, 0.5), (0.125,)),
        LoadingRun(0, False, (0.1,), (0.11, 0.11, 0.1)),
        LoadingRun(1, True, (0.1,), (0.5,)),
    ]

    assert loading_ratios(runs) == pytest.approx([1.25 / 1.1]), "of the only whole pair"


def test_gaps_of_a_window_are_those_between_tokens_that_came_in_it() -> None:
    own = Stream(httpx.AsyncClient(), "model", "go", 10)
    own.arrivals += [Arrival(1.0, 1), Arrival(2.0, 2), Arrival(2.5, 3), Arrival(4.0, 4)]

    assert own.gaps(1.5, 4.0) == [0.5]


def test_the_median_is_inside_its_interval() -> None:
    found = median_interval([0.98, 0.99, 1.0, 1.01, 1.02])

    assert 0.98 <= found.low <= found.value == 1.0 <= found.high <= 1.02
    assert median_interval([1.0] * 31).low == median_interval([1.0] * 31).high == 1.0


SWITCHES = [SwitchRun(0, (stream(0.25, end_s=12.0, pause_s=0.125),) * 2, RECORD)]
LOADING = [
    LoadingRun(0, True, (0.1, 0.1), (0.125, 0.125)),
    LoadingRun(0, False, (0.2, 0.2), (0.2, 0.2)),
]
PAIRS = [
    TpotPair(0, n, n % 2 == 0, 0.05 * ratio, 0.05, "a", "b") for n, ratio in enumerate((1, 2, 3))
]
NEIGHBOURS = [
    NeighbourRun(0, True, 4.2, 4, "CONSOLIDATING"),
    NeighbourRun(0, False, 4.0, 4, "PIPELINED"),
    NeighbourRun(1, True, 9.0, 4, "CONSOLIDATING"),
]
COST = CostRun(1, 3.0, True, 30.0, 60, 0, 12, 0.9, 1.0)
COSTS = [
    COST,
    replace(COST, can_consolidate=False, device_byte_s=50.0),
    replace(COST, seed=2, device_byte_s=1000.0),
]


def test_the_summary_has_the_figures_of_all_parts() -> None:
    found = summary_of(SWITCHES, LOADING, PAIRS, NEIGHBOURS, COSTS)

    assert tuple(found) == KEYS
    assert found["first_token_to_standalone_s"] == 10.0
    assert found["pause_p50_ms"] == pytest.approx(125.0)
    assert found["pause_p99_ms"] == pytest.approx(125.0)
    assert found["slowdown_while_loading"] == pytest.approx(1.25)
    assert found["slowdown_while_loading_p99"] == pytest.approx(0.125 / 0.2)
    assert found["tpot_ratio_after"] == pytest.approx(2.0)
    assert found["tpot_ratio_after_ci"] == pytest.approx([1.0, 3.0])
    assert (found["kv_bytes_precopied"], found["kv_bytes_at_switch"]) == (1000, 10)
    assert found["neighbour_ttft_ratio"] == pytest.approx(1.05), "of the only whole pair"
    assert found["cost_saved_ratio"] == pytest.approx(0.6), "of the only seed with both runs"


def test_what_was_not_measured_is_none() -> None:
    assert summary_of([], [], [], [], []) == dict.fromkeys(KEYS)
    assert summary_of([], [], [], [], COSTS)["cost_saved_ratio"] == pytest.approx(0.6)
    assert details_of([], [], [], [])["num_switches"] == 0


def test_whole_gaps_are_told_beside_pauses() -> None:
    found = details_of(SWITCHES, LOADING, PAIRS, NEIGHBOURS)

    assert found["gap_p50_ms"] == pytest.approx(375.0)
    assert found["ordinary_gap_ms"] == pytest.approx(250.0)
    assert (found["drain_ms"], found["first_step_ms"]) == pytest.approx((50.0, 200.0))
    assert found["num_pauses"] == 2
    assert found["second_window_without"] == 1.0


def test_targets_and_definitions_are_of_figures_that_are_there() -> None:
    assert set(TARGETS) <= set(KEYS) and set(DEFINITIONS) <= set(KEYS)


def step(name: str, began_s: float, ended_s: float | None, detail: str = "") -> dict[str, Any]:
    def moment(at_s: float) -> str:
        return datetime.fromtimestamp(at_s, UTC).isoformat()

    ended_at = None if ended_s is None else moment(ended_s)
    return {"name": name, "started_at": moment(began_s), "ended_at": ended_at, "detail": detail}


STEPS = [
    step("first_token", -1.0, 0.0),
    step("consolidation.load", 1.0, 5.0, "22 units"),
    step("consolidation.copy", 5.0, 9.9, "move: 2 sequences, 900 tokens, 1.0 MB"),
    step("consolidation.drain", 9.9, 9.95),
    step("consolidation.move", 9.95, 10.0, "2 sequences, 1000 bytes before, 10 at the switch"),
    step("consolidation.first_step", 10.0, 10.2),
]


def test_a_record_is_read_from_the_timeline() -> None:
    assert record_of(STEPS) == RECORD


def test_a_record_is_whole_once_its_last_step_has_ended() -> None:
    assert record_of(STEPS[:-1]) is None
    assert record_of([*STEPS[:-1], step("consolidation.first_step", 10.0, None)]) is None


def test_sequences_that_are_computed_again_move_nothing() -> None:
    move = step("consolidation.move", 9.95, 10.0, "2 sequences are computed again")
    found = record_of([*STEPS[:-2], move, STEPS[-1]])

    assert found == replace(RECORD, num_moved=0, num_recomputed=2, precopied_bytes=0, moved_bytes=0)


def test_other_words_are_no_record() -> None:
    with pytest.raises(ValueError, match="other words"):
        record_of([*STEPS[:-2], step("consolidation.move", 9.95, 10.0, "well"), STEPS[-1]])


def test_samples_are_kept(tmp_path: Path) -> None:
    samples = Samples(tmp_path / "out" / "samples.jsonl")
    for run in SWITCHES:
        samples.add("pause", run)
    samples.add("loading", LOADING[0])
    samples.add("tpot", PAIRS[0])
    samples.add("neighbour", NEIGHBOURS[0])
    samples.add("cost", COSTS[0])

    again = Samples(tmp_path / "out" / "samples.jsonl")

    assert (again.switches, again.loading) == (SWITCHES, LOADING[:1])
    assert (again.tpot_pairs, again.neighbours) == (PAIRS[:1], NEIGHBOURS[:1])
    assert again.costs(3.0) == COSTS[:1]
    assert again.costs(1.0) == [], "traces of another length are others"


def test_parts_are_forgotten_alone(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    samples = Samples(path)
    samples.add("tpot", PAIRS[0])
    samples.add("cost", COSTS[0])

    samples.forget(["tpot"])

    assert samples.tpot_pairs == Samples(path).tpot_pairs == []
    assert samples.costs(3.0) == Samples(path).costs(3.0) == COSTS[:1]


def test_samples_of_other_code_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    samples = Samples(path)
    samples.add("cost", COSTS[0])
    path.write_text(path.read_text().replace(samples.all[0].code, "other"))

    assert Samples(path).all == []
