from services.scheduler.simulation.event_queue import EventQueue


def test_events_happen_in_time_and_equal_ones_in_the_order_of_planning() -> None:
    events, seen = EventQueue(), list[str]()
    events.at(2.0, lambda: seen.append("c"))
    events.at(1.0, lambda: seen.append("a"))
    events.at(1.0, lambda: seen.append("b"))
    events.run_until(2.0)
    assert seen == ["a", "b", "c"]
    assert events.now_s == 2.0


def test_a_cancelled_event_does_not_happen() -> None:
    events, seen = EventQueue(), list[str]()
    event = events.at(1.0, lambda: seen.append("a"))
    event.cancel()
    assert events.next_at_s is None
    events.run_until(5.0)
    assert (seen, events.now_s) == ([], 5.0)


def test_what_is_planned_for_the_past_happens_now() -> None:
    events, seen = EventQueue(), list[float]()
    events.run_until(3.0)
    events.at(1.0, lambda: seen.append(events.now_s))
    events.run_until(3.0)
    assert seen == [3.0]
