from pathlib import Path

import pytest

from libs.common.errors import SettingsError
from libs.common.startmode import StartMode
from services.scheduler.settings import SchedulerSettings, Timing


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    secret = tmp_path / "secret"
    secret.write_text("x")
    return {
        "HYDRA_NATS_URL": "nats://127.0.0.1:4222",
        "HYDRA_NATS_USER": "scheduler",
        "HYDRA_NATS_PASSWORD_FILE": str(secret),
        "HYDRA_DATABASE_URL": "postgresql://hydra@127.0.0.1/hydra",
        "HYDRA_DATABASE_PASSWORD_FILE": str(secret),
    }


def test_everything_but_addresses_and_secrets_has_a_default(environ: dict[str, str]) -> None:
    settings = SchedulerSettings.read(environ)

    assert settings.timing == Timing()
    assert settings.scheduler_id.startswith("scheduler-")
    assert settings.health_file is None
    assert settings.start_mode is StartMode.HYDRA
    assert (settings.metrics_host, settings.metrics_port) == ("127.0.0.1", None)


def test_metrics_are_told_where_a_port_is_given(environ: dict[str, str]) -> None:
    given = {"HYDRA_SCHEDULER_METRICS_HOST": "0.0.0.0", "HYDRA_SCHEDULER_METRICS_PORT": "9100"}

    settings = SchedulerSettings.read({**environ, **given})

    assert (settings.metrics_host, settings.metrics_port) == ("0.0.0.0", 9100)
    with pytest.raises(SettingsError, match="at most 65535"):
        SchedulerSettings.read({**environ, "HYDRA_SCHEDULER_METRICS_PORT": "99999"})


def test_every_timing_can_be_set(environ: dict[str, str]) -> None:
    given = {
        "HYDRA_NODE_LOST_S": "3",
        "HYDRA_ABANDON_BELOW_PERCENT": "0",
        "HYDRA_RETENTION_DAYS": "2",
        "HYDRA_NODE_RETENTION_DAYS": "3",
    }

    settings = SchedulerSettings.read({**environ, **given})

    assert settings.timing.node_lost_s == 3
    assert settings.timing.abandon_below_fraction == 0
    assert settings.timing.retention_s == 2 * 86_400
    assert settings.timing.node_retention_s == 3 * 86_400
    assert settings.timing.longest_gap_s == 0.6


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HYDRA_SCHEDULER_ID", "Not an id"),
        ("HYDRA_NODE_LOST_S", "soon"),
        ("HYDRA_QUEUE_RETRY_AFTER_S", "0"),
        ("HYDRA_RETENTION_DAYS", "-1"),
        ("HYDRA_START_MODE", "Hydra"),
    ],
)
def test_a_bad_value_names_its_key(environ: dict[str, str], key: str, value: str) -> None:
    with pytest.raises(SettingsError, match=key):
        SchedulerSettings.read({**environ, key: value})
