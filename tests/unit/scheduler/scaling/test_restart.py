import pytest

from services.scheduler.policy.scaling.restart import LEAST_S, StageRestart, restart_s


@pytest.mark.parametrize(
    ("stages", "expected_s", "reason"),
    [
        ([StageRestart(1.25, 0, 100.0)], 1.25, "its weights are there: it has to launch"),
        ([StageRestart(1.25, 1000, 100.0)], 10.0, "side by side, the fetch takes longer"),
        ([StageRestart(0.0, 100, 100.0)], 1.0, "a standby has been launched"),
        ([StageRestart(2.0, 100, 100.0), StageRestart(1.0, 300, 100.0)], 3.0, "the slowest"),
        ([StageRestart(1.0, 25 * 10**8, 0.0)], 2.0, "at the rate that is assumed"),
        ([StageRestart(0.0, 0, 100.0)], LEAST_S, "nothing is back at once"),
        ([], LEAST_S, "nor is what nobody knows"),
    ],
)
def test_the_slowest_stage_counts(
    stages: list[StageRestart], expected_s: float, reason: str
) -> None:
    assert restart_s(stages) == expected_s, reason
