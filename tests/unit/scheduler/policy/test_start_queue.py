from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.planning.start_queue import StartQueue

PLAN = Plan(())


def queue(model_ids: str) -> StartQueue:
    return StartQueue().keep_only(model_ids)


def next_up(queue_: StartQueue, *, is_free: bool = False) -> str:
    return "".join(queue_.next_up(lambda plan: is_free))


def num_claims_before(queue_: StartQueue, model_id: str) -> int:
    return len(queue_.claims_between(0, "abc".index(model_id)))


def test_whoever_was_not_reached_is_next() -> None:
    after = queue("abc").has_reached("a").end_pass()

    later = after.keep_only("abc")

    assert next_up(later) == "bc"
    assert not later.is_all_reached


def test_whoever_claims_what_has_come_free_is_not_made_to_wait_for_the_end_of_the_pass() -> None:
    after = queue("abc").claim("a", PLAN).has_reached("ab")

    assert next_up(after) == "c"
    assert next_up(after, is_free=True) == "ac", "b claims nothing"
    again = after.has_reached("a")
    assert next_up(again, is_free=True) == "c", "once in a pass"
    assert next_up(again.has_reached("c").end_pass(), is_free=True) == "abc"


def test_a_pass_that_reached_all_is_followed_by_one_from_the_front() -> None:
    reached = queue("ab").has_reached("a").has_reached("b")
    assert reached.is_all_reached

    assert next_up(reached.end_pass()) == "ab"


def test_a_pass_whose_last_ones_have_left_begins_again() -> None:
    reached = queue("ab").has_reached("a")

    assert next_up(reached.keep_only("a")) == "a"


def test_room_that_is_claimed_is_kept_from_those_behind_until_its_model_leaves() -> None:
    claimed = queue("abc").claim("b", PLAN)
    assert [num_claims_before(claimed, name) for name in "abc"] == [0, 0, 1]

    assert not num_claims_before(claimed.claim("b", None), "c")

    assert not claimed.keep_only("ac").claims_between(0, 1)


def test_one_model_at_a_time_holds_room_that_nobody_frees() -> None:
    held = queue("ab").hold("a", PLAN)
    assert held.may_hold("a") and not held.may_hold("b")
    assert num_claims_before(held, "b") == 1

    claimed = held.claim("a", PLAN)
    assert claimed.may_hold("b"), "what it waits for is being freed now"

    other = claimed.hold("b", PLAN).keep_only("a")
    assert other.may_hold("a"), "who held has left"
