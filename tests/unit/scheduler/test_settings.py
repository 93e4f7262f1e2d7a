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
