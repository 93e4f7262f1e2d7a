from pathlib import Path

import pytest

from libs.common.errors import SettingsError
from libs.common.settings import Environment
from services.worker.agent.processes.watchdog import WatchdogLimits
from services.worker.agent.settings import AgentSettings, DeviceKind, DeviceSettings
from services.worker.frames.dataplane import DataPlaneOptions, Security
from tests.support.devices import GPU_UUID


def environment(tmp_path: Path, **values: str) -> Environment:
    password = tmp_path / "password"
    password.write_text("secret\n")
    base = {
        "HYDRA_NODE_ID": "node-0",
        "HYDRA_DEVICES": "cpu:512Mi:1",
        "HYDRA_SOCKET_DIR": str(tmp_path),
        "HYDRA_RUN_DIR": str(tmp_path / "run"),
        "HYDRA_NATS_URL": "nats://127.0.0.1:4222",
        "HYDRA_NATS_USER": "worker",
        "HYDRA_NATS_PASSWORD_FILE": str(password),
    }
    return Environment({**base, **values})


def test_devices_are_read_in_order(tmp_path: Path) -> None:
    env = environment(
        tmp_path, HYDRA_DEVICES=f"cpu:1Gi:2, cuda:0, cuda:{GPU_UUID}:40Gi,cuda:4:1G:6"
    )
    assert AgentSettings.read(env).devices == (
        DeviceSettings(0, DeviceKind.CPU, None, 2**30, 2),
        DeviceSettings(1, DeviceKind.CUDA, "0", None, None),
        DeviceSettings(2, DeviceKind.CUDA, GPU_UUID, 40 * 2**30, None),
        DeviceSettings(3, DeviceKind.CUDA, "4", 10**9, 6),
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HYDRA_DEVICES", "cpu"),
        ("HYDRA_DEVICES", "cpu:1Gi"),
        ("HYDRA_DEVICES", "cpu:1Gi:0"),
        ("HYDRA_DEVICES", "cpu:0:1"),
        ("HYDRA_DEVICES", "cuda:x"),
        ("HYDRA_DEVICES", "cuda:GPU-8932f937"),
        ("HYDRA_DEVICES", "cuda:0:1Gi:1:1"),
        ("HYDRA_DEVICES", "tpu:0"),
        ("HYDRA_DEVICES", "cpu:1Gi:1,"),
        ("HYDRA_NODE_ID", "Node.0"),
        ("HYDRA_DATA_PLANE", "plain"),
        ("HYDRA_ENGINE_PATIENCE_S", "4"),
        ("HYDRA_STANDBY_RUNTIMES", "-1"),
        ("HYDRA_STANDBY_RUNTIMES", "some"),
        ("HYDRA_STANDBY_BIND_TIMEOUT_S", "soon"),
        ("HYDRA_NATS_PASSWORD_FILE", "/nowhere/at/all"),
    ],
)
def test_a_bad_value_is_named_with_its_key(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(SettingsError) as caught:
        AgentSettings.read(environment(tmp_path, **{key: value}))
    assert caught.value.key == key
    assert caught.value.value == value


def test_the_data_plane_is_encrypted_unless_it_is_said_otherwise(tmp_path: Path) -> None:
    ledger = str(tmp_path / "nic.ledger")
    plain = {"HYDRA_DATA_PLANE": "trusted", "HYDRA_ADVERTISE_HOST": "10.0.0.7"}

    assert AgentSettings.read(environment(tmp_path)).data_plane == DataPlaneOptions(
        Security.CURVE, "127.0.0.1", ledger
    )
    assert AgentSettings.read(environment(tmp_path, **plain)).data_plane == DataPlaneOptions(
        Security.TRUSTED, "10.0.0.7", ledger
    )


def test_an_engine_may_stand_still_as_long_as_is_said(tmp_path: Path) -> None:
    assert AgentSettings.read(environment(tmp_path)).watchdog_limits == WatchdogLimits()
    patient = environment(tmp_path, HYDRA_ENGINE_PATIENCE_S="90")
    assert AgentSettings.read(patient).watchdog_limits == WatchdogLimits(engine_s=90.0)


def test_the_password_is_not_in_the_printed_settings(tmp_path: Path) -> None:
    assert "secret" not in repr(AgentSettings.read(environment(tmp_path)))
