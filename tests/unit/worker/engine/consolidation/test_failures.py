"""What goes wrong on the way leaves the pipeline as it is; it can be tried again."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from services.worker.engine.consolidation.consolidation import MAX_FREEZES
from services.worker.engine.consolidation.kv_inflow import MAX_LOST_BLOCKS
from services.worker.engine.consolidation.kv_ports import KvBlock, KvBlockLost, KvReceiver
from services.worker.engine.consolidation.options import ConsolidationOptions
from services.worker.engine.errors import EngineError, TensorError
from services.worker.engine.execution.notices import KvInletOpened
from services.worker.engine.model.weights import UnitKey
from services.worker.engine_port import KvTransfer, Request
from services.worker.errors import WeightsUnavailable, WorkerError
from tests.unit.worker.engine.consolidation.consolidating import (
    NEVER_SLOW,
    ArrivingWeights,
    Results,
    Told,
    run_all,
)
from tests.unit.worker.engine.consolidation.lanes import (
    KvLane,
    LaneSender,
    LaneSubjects,
    make_subjects,
)
from tests.unit.worker.engine.pipelines import layers_of, make_pipeline
from tests.unit.worker.engine.test_generation import greedy, seeded
from tests.unit.worker.engine.tiny import Tiny, generate

SLOW_LINK = replace(NEVER_SLOW, link_bytes_per_s=100_000)  # so that keys and values are pre-copied


@pytest.fixture
def subjects(tiny: Tiny) -> LaneSubjects:
    return make_subjects(tiny, layers_of((1, 2), 3), random.Random(3), kv_tokens=512)


def requests_of(tiny: Tiny) -> list[Request]:
    return [greedy("a", tiny.prompt(40), 60), seeded("b", tiny.prompt(25, 1), 4, 60)]


def check_tokens(tiny: Tiny, results: Results) -> None:
    for request in requests_of(tiny):
        alone = generate(tiny.engine(), request)[request.request_id].token_ids
        assert results[request.request_id].token_ids == alone


def once(is_due: Callable[[Results], bool], act: Callable[[], None]) -> Callable[[Results], None]:
    acts = iter([act])

    def between(results: Results) -> None:
        if is_due(results) and (due := next(acts, None)):
            due()

    return between


@pytest.mark.parametrize(
    "last_told",
    [(), ("loaded", "copying"), ("loaded", "copying", "freezing")],
    ids=["while it loads", "while it copies", "while it is frozen"],
)
def test_abandoned_at_any_point_the_pipeline_goes_on_and_can_become_one_worker_later(
    tiny: Tiny, subjects: LaneSubjects, last_told: tuple[str, ...]
) -> None:
    later = KvLane(subjects.senders, subjects.chance)
    told_later = Told()

    def abandon() -> None:
        subjects.engine.abandon_consolidation("the model is idle")
        weights = ArrivingWeights(tiny.weights, subjects.chance)
        subjects.engine.begin_consolidation(weights, later, NEVER_SLOW, told_later)

    subjects.begin(SLOW_LINK)
    results = run_all(
        subjects.engine,
        requests_of(tiny),
        between=once(
            lambda r: subjects.told.names == list(last_told),
            abandon,
        ),
    )

    assert subjects.told.names == [*last_told, "abandoned"]
    assert subjects.told.why == "the model is idle" and subjects.kv.is_closed
    assert told_later.names[-1] == "stepped", told_later.why
    check_tokens(tiny, results)


@dataclass
class FailingWeights:
    """Of which a unit can never be had, or is not what it should be."""

    error: WorkerError
    fails_early: bool
    tiny: Tiny

    def is_ready(self, unit: UnitKey) -> bool:
        if self.fails_early:
            raise self.error
        return True

    def wait_unit(self, unit: UnitKey, timeout_s: float) -> None:
        raise self.error

    def tensor(self, unit: UnitKey, name: str) -> None:
        raise AssertionError("it is not there")


@pytest.mark.parametrize("fails_early", [True, False])
@pytest.mark.parametrize("error", [WeightsUnavailable("gone"), TensorError("w", "is torn")])
def test_weights_that_cannot_be_had_leave_the_pipeline(
    tiny: Tiny, subjects: LaneSubjects, error: WorkerError, fails_early: bool
) -> None:
    weights = FailingWeights(error, fails_early, tiny)
    subjects.engine.begin_consolidation(weights, subjects.kv, NEVER_SLOW, subjects.told)  # type: ignore[arg-type]  # gives no tensor

    results = run_all(subjects.engine, requests_of(tiny))

    assert subjects.told.names == ["abandoned"] and subjects.told.why == str(error)
    check_tokens(tiny, results)


class FailingReceiver(KvLane):
    """Cannot listen, or ends while blocks come."""

    def __init__(self, senders: list[LaneSender], *, can_open: bool) -> None:
        super().__init__(senders, random.Random(0))
        self._can_open = can_open

    def open(self) -> KvInletOpened:
        if not self._can_open:
            raise WorkerError("no port is free")
        return super().open()

    def receive(self, timeout_s: float) -> KvBlock | KvBlockLost | None:
        raise WorkerError("the inlet broke")


@pytest.mark.parametrize(
    ("can_open", "why"), [(False, "no port is free"), (True, "the inlet broke")]
)
def test_a_receiver_that_fails_leaves_the_pipeline(
    tiny: Tiny, subjects: LaneSubjects, can_open: bool, why: str
) -> None:
    receiver: KvReceiver = FailingReceiver(subjects.senders, can_open=can_open)
    weights = ArrivingWeights(tiny.weights, subjects.chance)
    subjects.engine.begin_consolidation(weights, receiver, NEVER_SLOW, subjects.told)

    results = run_all(subjects.engine, requests_of(tiny))

    assert subjects.told.names[-1] == "abandoned" and subjects.told.why == why
    check_tokens(tiny, results)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (replace(NEVER_SLOW, open_timeout_s=-1), "the other stages do not answer"),
        (
            replace(NEVER_SLOW, copy_timeout_s=-1, link_bytes_per_s=1),
            "keys and values come slower than new ones are made",
        ),
    ],
)
def test_what_takes_too_long_is_given_up(
    tiny: Tiny, subjects: LaneSubjects, options: ConsolidationOptions, why: str
) -> None:
    subjects.begin(options)

    results = run_all(subjects.engine, requests_of(tiny))

    assert subjects.told.names[-1] == "abandoned" and subjects.told.why == why
    check_tokens(tiny, results)


@pytest.mark.parametrize("transfer", KvTransfer)
def test_a_switch_that_takes_too_long_is_tried_again_and_then_given_up(
    tiny: Tiny, subjects: LaneSubjects, transfer: KvTransfer
) -> None:
    subjects.begin(replace(NEVER_SLOW, freeze_timeout_s=-1, retry_s=0, transfer=transfer))

    results = run_all(subjects.engine, requests_of(tiny))

    names = subjects.told.names
    assert names.count("freezing") == MAX_FREEZES
    assert names.count("unfrozen") == MAX_FREEZES - 1
    assert names.count("loaded") == 1 and names[-1] == "abandoned"
    assert f"{MAX_FREEZES} times" in subjects.told.why
    check_tokens(tiny, results)


def test_when_every_block_comes_damaged_it_is_given_up(tiny: Tiny) -> None:
    subjects = make_subjects(
        tiny, layers_of((1,), 3), random.Random(1), lose_share=1.0, kv_tokens=512
    )
    subjects.begin()

    results = run_all(subjects.engine, requests_of(tiny))

    assert subjects.told.names[-1] == "abandoned"
    assert subjects.told.why == f"{MAX_LOST_BLOCKS + 1} blocks of keys and values came damaged"
    check_tokens(tiny, results)


def test_what_nobody_asked_for_ends_it(tiny: Tiny, subjects: LaneSubjects) -> None:
    subjects.begin(SLOW_LINK)

    def forge() -> None:
        sender = subjects.senders[0]
        sender.queue.append(replace(sender.blocks[0], export_id=10_000))

    results = run_all(
        subjects.engine,
        requests_of(tiny),
        between=once(lambda r: bool(subjects.senders[0].blocks), forge),
    )

    assert subjects.told.names[-1] == "abandoned"
    assert subjects.told.why.startswith("stage 1 sends what nobody asked for")
    check_tokens(tiny, results)


def test_an_idle_pipeline_becomes_one_worker_with_nothing_to_move(
    tiny: Tiny, subjects: LaneSubjects
) -> None:
    subjects.begin()
    for _ in range(200):
        subjects.engine.optimize_step()
        subjects.engine.step()

    assert subjects.told.names == ["loaded", "copying", "freezing", "switched", "stepped"]
    assert subjects.told.result is not None and subjects.told.result.num_sequences == 0
    subjects.close_ring()
    check_tokens(tiny, run_all(subjects.engine, requests_of(tiny)))


def test_sequences_that_are_computed_again_go_on_with_the_same_tokens(
    tiny: Tiny, subjects: LaneSubjects
) -> None:
    begin = once(
        lambda r: len(r["a"].token_ids) >= 9,
        lambda: subjects.begin(replace(NEVER_SLOW, transfer=KvTransfer.RECOMPUTE)),
    )

    results = run_all(subjects.engine, requests_of(tiny), between=begin)

    result = subjects.told.result
    assert result is not None and result.transfer is KvTransfer.RECOMPUTE
    assert result.num_recomputed == 2 and result.precopied_bytes == result.moved_bytes == 0
    assert all(not sender.blocks for sender in subjects.senders)
    check_tokens(tiny, results)


def test_a_stage_without_a_sender_refuses_to_export(tiny: Tiny) -> None:
    pipeline = make_pipeline(tiny, layers_of((1,), 3), random.Random(0))
    pipeline.lanes[0].tell(KvInletOpened("tcp://entry:1", "k" * 40))

    with pytest.raises(EngineError, match="no way to send keys and values for an inlet"):
        pipeline.followers[0].step(0)
