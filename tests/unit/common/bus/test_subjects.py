import pytest

from libs.common.bus.messages import Message
from libs.common.bus.subjects import (
    ENDPOINT_GENERATE,
    REQUEST_SUBMIT,
    REQUEST_TOKENS,
    ROUTES,
    TABLE,
    Service,
    permissions_for,
)


def test_every_subject_is_listed_once_with_a_class_of_its_own() -> None:
    assert len({row.pattern for row in TABLE}) == len(TABLE)
    assert all(issubclass(row.message, Message) for row in TABLE)


def test_a_subject_with_a_token_needs_one_and_one_without_takes_none() -> None:
    assert REQUEST_TOKENS.of("req-1") == "hydra.v1.request.req-1.tokens"
    assert ROUTES.of() == "hydra.v1.routes"
    with pytest.raises(ValueError, match="do not fit"):
        REQUEST_TOKENS.of()
    with pytest.raises(ValueError, match="do not fit"):
        ROUTES.of("x")


@pytest.mark.parametrize("token", ["a.b", "*", ">", "a b"])
def test_a_token_cannot_reach_into_other_subjects(token: str) -> None:
    with pytest.raises(ValueError, match="cannot be one token"):
        REQUEST_TOKENS.of(token)


@pytest.mark.parametrize("service", list(Service))
def test_permissions_are_what_the_table_says_and_the_own_inbox(service: Service) -> None:
    permissions = permissions_for(service)
    project = [s for s in permissions.publish if s.startswith("hydra.")]
    assert sorted(project) == sorted(r.wildcard for r in TABLE if service in r.publishers)
    inboxes = [s for s in permissions.subscribe if s.startswith("_INBOX")]
    assert inboxes == [f"_INBOX_{service}.>"]


def test_only_gateways_submit_and_only_the_scheduler_hears_it() -> None:
    assert REQUEST_SUBMIT.publishers == ENDPOINT_GENERATE.publishers == {Service.GATEWAY}
    assert REQUEST_SUBMIT.subscribers == {Service.SCHEDULER}
