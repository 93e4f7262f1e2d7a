"""A gateway's own name and its requests' deadline, from its environment."""

import pytest

from libs.common.errors import SettingsError
from libs.common.ids import is_id, kind_of
from libs.common.settings import Environment
from services.gateway.settings import GatewaySettings, gateway_id_from, read_deadline_s


def test_every_start_of_a_gateway_is_another_one_of_the_same_name() -> None:
    env = Environment({"HYDRA_GATEWAY_ID": "gateway-0"})

    first, second = gateway_id_from(env), gateway_id_from(env)

    assert first != second
    assert kind_of(first) == kind_of(second) == "gateway-0"


def test_gateways_without_a_name_have_different_ones() -> None:
    first, second = gateway_id_from(Environment({})), gateway_id_from(Environment({}))

    assert kind_of(first) != kind_of(second)
    assert is_id(first)


@pytest.mark.parametrize("name", ["Gateway", "a.b", "g" * 43, "g w"])
def test_a_name_that_cannot_be_part_of_an_id_ends_the_start(name: str) -> None:
    with pytest.raises(SettingsError, match="GATEWAY_ID"):
        gateway_id_from(Environment({"HYDRA_GATEWAY_ID": name}))


def test_the_deadline_of_requests_is_the_operators() -> None:
    assert read_deadline_s(Environment({})) == 600
    assert read_deadline_s(Environment({"HYDRA_REQUEST_DEADLINE_S": "7200"})) == 7200


@pytest.mark.parametrize("text", ["0", "0.5", "86401", "ten", "-1"])
def test_a_deadline_that_no_request_can_have_ends_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match="REQUEST_DEADLINE_S"):
        read_deadline_s(Environment({"HYDRA_REQUEST_DEADLINE_S": text}))


def environment(**changes: str) -> Environment:
    values = {
        "NATS_URL": "nats://h:1", "NATS_USER": "gateway", "NATS_PASSWORD_FILE": "/dev/null",
    }  # fmt: skip
    return Environment({f"HYDRA_{k}": v for k, v in {**values, **changes}.items()})


def test_a_bad_setting_names_its_key_and_value() -> None:
    with pytest.raises(SettingsError, match="HYDRA_GATEWAY_PORT is 'abc'"):
        GatewaySettings.read(environment(GATEWAY_PORT="abc"))
    with pytest.raises(SettingsError, match="HYDRA_GATEWAY_ID is 'Not An Id'"):
        GatewaySettings.read(environment(GATEWAY_ID="Not An Id"))


STORES = {
    "DATABASE_URL": "postgresql://h/d", "DATABASE_PASSWORD_FILE": __file__,
    "S3_ENDPOINT": "http://h", "S3_ACCESS_KEY_FILE": __file__,
    "S3_SECRET_KEY_FILE": __file__, "NATS_PASSWORD_FILE": __file__,
}  # fmt: skip


@pytest.mark.parametrize(("body", "waiting"), [("8Mi", "0"), ("8Mi", "8000000"), ("1Gi", "512Mi")])
def test_waiting_bytes_without_room_for_a_body_end_the_start(body: str, waiting: str) -> None:
    sizes = {"GATEWAY_MAX_BODY": body, "GATEWAY_MAX_WAITING_BYTES": waiting}
    with pytest.raises(SettingsError, match="GATEWAY_MAX_WAITING_BYTES"):
        GatewaySettings.read(environment(**STORES, **sizes))


def test_a_larger_body_has_room_unless_operators_say_otherwise() -> None:
    limits = GatewaySettings.read(environment(**STORES, GATEWAY_MAX_BODY="1Gi")).limits

    assert limits.max_waiting_bytes == limits.max_body_bytes
