from services.scheduler.policy.cluster import Model
from services.scheduler.policy.planning.plans import Plan
from services.scheduler.policy.start_queue import Line
from tests.unit.scheduler.values import model

A, B, C = (model(id=name) for name in "abc")
PLAN = Plan(())


def _ids(models: list[Model]) -> str:
    return "".join(model_.id for model_ in models)


def _line(*models: Model) -> Line:
    line = Line()
    line.keep_only(models)
    return line


def test_whoever_was_not_reached_is_next() -> None:
    line = _line(A, B, C)
    line.has_reached("a")
    line.end_pass()

    line.keep_only((A, B, C))

    assert _ids(line.next_up()) == "bc"
    assert not line.is_all_reached


def test_a_pass_that_reached_all_is_followed_by_one_from_the_front() -> None:
    line = _line(A, B)
    for model_ in (A, B):
        line.has_reached(model_.id)
    assert line.is_all_reached

    line.end_pass()

    assert _ids(line.next_up()) == "ab"


def test_a_pass_whose_last_ones_have_left_begins_again() -> None:
    line = _line(A, B)
    line.has_reached("a")

    line.keep_only((A,))

    assert _ids(line.next_up()) == "a"


def test_room_that_is_claimed_is_kept_from_those_behind_until_its_model_leaves() -> None:
    line = _line(A, B, C)
    line.claim("b", PLAN)
    assert [len(list(line.claims_before(name))) for name in "abc"] == [0, 0, 1]

    line.claim("b", None)
    assert not list(line.claims_before("c"))

    line.claim("b", PLAN)
    line.keep_only((A, C))
    assert not list(line.claims_before("c"))


def test_one_model_at_a_time_holds_room_that_nobody_frees() -> None:
    line = _line(A, B)
    line.hold("a", PLAN)
    assert line.may_hold("a") and not line.may_hold("b")
    assert len(list(line.claims_before("b"))) == 1

    line.claim("a", PLAN)
    assert line.may_hold("b"), "what it waits for is being freed now"

    line.hold("b", PLAN)
    line.keep_only((A,))
    assert line.may_hold("a"), "who held has left"
