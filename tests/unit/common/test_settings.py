from pathlib import Path

import pytest

from libs.common.errors import SettingsError
from libs.common.settings import BusSettings, DatabaseSettings, Environment, parse_size_bytes


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("0", 0), ("512", 512), ("50M", 50_000_000), ("2Gi", 2 << 30), ("1.5k", 1500), ("4 ", 4)],
)
def test_a_size_is_read_with_decimal_and_binary_units(text: str, size_bytes: int) -> None:
    assert parse_size_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "M", "fast", "-1", "1T2", "0x10"])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        parse_size_bytes(text)


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        ("integer", "many"),
        ("integer", "-3"),
        ("seconds", "soon"),
        ("seconds", "nan"),
        ("seconds", "-1"),
        ("size_bytes", "big"),
        ("text", "  "),
    ],
)
def test_a_bad_value_names_its_key_and_itself(reader: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        getattr(Environment({"HYDRA_LIMIT": value}), reader)("LIMIT")
    assert caught.value.key == "HYDRA_LIMIT"
    assert repr(value) in str(caught.value)


def test_a_missing_value_is_named() -> None:
    with pytest.raises(SettingsError, match="HYDRA_NATS_URL is not set"):
        Environment({}).text("NATS_URL")


def test_a_secret_is_read_from_its_file_and_stays_out_of_representations(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2-hunter2\n")
    values = {
        "HYDRA_NATS_URL": "nats://127.0.0.1:1",
        "HYDRA_NATS_USER": "gateway",
        "HYDRA_NATS_PASSWORD_FILE": str(secret),
        "HYDRA_DATABASE_URL": "postgresql://hydra@127.0.0.1/hydra",
        "HYDRA_DATABASE_PASSWORD_FILE": str(secret),
    }

    bus = BusSettings.read(Environment(values))
    database = DatabaseSettings.read(Environment(values))

    assert bus.password == database.password == "hunter2-hunter2"
    assert "hunter2" not in repr(bus) + repr(database)


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_secret_file_that_is_missing_or_empty_stops_the_start(
    tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match="HYDRA_KEY_FILE"):
        Environment({"HYDRA_KEY_FILE": str(path)}).secret("KEY")
