"""What a worker tells its agent of a consolidation."""

from math import inf

import pytest

from libs.common.states import ConsolidationPhase
from services.worker.engine_port import CopyPlan, KvTransfer, Pause, Switched
from services.worker.frames.consolidation import Consolidate, RequestPause, SwitchMeasured
from services.worker.frames.consolidation import ConsolidationChanged as Changed
from services.worker.frames.frames import StepTaken, ToAgent
from services.worker.runtime.consolidation.report import ConsolidationReport, told_pauses

FRAME = Consolidate(2, 1, ("1" * 64,), kv_bytes=640, timeout_ms=1000)
PLAN = CopyPlan(KvTransfer.MOVE, 2, 300, 4500, move_s=0.75, recompute_s=inf)
MOVED = Switched(
    KvTransfer.MOVE,
    num_sequences=2,
    precopied_bytes=4000,
    moved_bytes=500,
    drain_s=0.25,
    move_s=0.5,
)


class Agent:
    def __init__(self) -> None:
        self.told: list[ToAgent] = []
        self.ends: list[bool] = []
        self.report = ConsolidationReport(FRAME, self.told.append, self.note_end)

    def note_end(self, *, has_switched: bool) -> None:
        self.ends.append(has_switched)

    @property
    def steps(self) -> list[str]:
        """That have ended."""
        steps = [frame for frame in self.told if isinstance(frame, StepTaken)]
        return [step.name for step in steps if step.ended_at_s is not None]


def test_an_agent_hears_how_the_switch_went_once_all_pauses_are_known() -> None:
    agent = Agent()
    agent.report.loaded()
    agent.report.copying(PLAN)
    agent.report.freezing()
    agent.report.switched(MOVED)
    agent.report.stepped()

    agent.report.paused((Pause("r0", 0.5, 0.125), Pause("r1", 1.0)))

    names = ("load", "copy", "drain", "move", "first_step")
    assert agent.steps == [f"consolidation.{name}" for name in names]
    assert Changed(2, 1, ConsolidationPhase.SWITCHED) in agent.told and agent.ends == [True]
    assert agent.told[-1] == SwitchMeasured(
        *(2, 1),
        is_recomputed=False,
        num_sequences=2,
        precopied_bytes=4000,
        moved_bytes=500,
        drain_s=0.25,
        move_s=0.5,
        pauses=(RequestPause("r1", 1.0), RequestPause("r0", 0.5, 0.125)),
        predicted_move_s=0.75,
        predicted_recompute_s=None,
    )


@pytest.mark.parametrize(("count", "told"), [(0, 0), (1, 1), (256, 256), (257, 256), (1000, 256)])
def test_of_too_many_pauses_the_longest_is_told_and_their_median_stays(
    count: int, told: int
) -> None:
    found = told_pauses(tuple(Pause(f"r{i}", float(i)) for i in range(count)))

    pauses_s = [pause.pause_s for pause in found]
    assert len(found) == told and pauses_s == sorted(pauses_s, reverse=True)
    if found:
        assert pauses_s[0] == count - 1
        assert pauses_s[told // 2] == pytest.approx((count - 1) / 2, abs=max(1, count / told))
