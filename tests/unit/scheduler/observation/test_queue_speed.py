"""When to come again, from how fast a queue moves."""

import pytest

from services.scheduler.observation.queue_speed import QueueSpeed


@pytest.mark.parametrize(
    ("assigned_at_s", "num_waiting", "predicted_s", "why"),
    [
        ((), 10, None, "nothing moves: nobody can tell"),
        ((900.0,), 10, None, "what was assigned a minute ago says nothing"),
        (tuple(980.0 + i for i in range(20)), 10, 10, "one a second"),
        (tuple(950.0 + 5 * i for i in range(10)), 100, 300, "no further than anybody can see"),
        (tuple(999.0 for _ in range(1000)), 1, 1, "a second is the least"),
        ((960.0, 970.0, 980.0, 990.0), 3, 30, "the pause until now counts too"),
    ],
)
def test_the_wait_is_how_long_those_before_take_at_the_speed_of_the_last_minute(
    assigned_at_s: tuple[float, ...], num_waiting: int, predicted_s: int | None, why: str
) -> None:
    speed = QueueSpeed()
    for moment_s in assigned_at_s:
        speed.note_assigned("model-1", moment_s)

    assert speed.predicted_wait_s("model-1", num_waiting, 1000.0) == predicted_s, why
    assert speed.predicted_wait_s("model-2", num_waiting, 1000.0) is None
