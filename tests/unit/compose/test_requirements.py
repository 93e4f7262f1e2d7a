"""What an image has to install, out of pyproject.toml."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from deploy.compose.requirements import requirements

_ROOT = Path(__file__).parents[3]
PROJECT = {
    "dependencies": ["nats-py>=2"],
    "optional-dependencies": {
        "database": ["asyncpg", "alembic"],
        "gateway": ["hydraserve[database]", "fastapi"],
        "both": ["hydraserve[gateway, database]"],
    },
}


@pytest.mark.parametrize(
    ("extras", "expected"),
    [
        ([], ["nats-py>=2"]),
        (["gateway"], ["nats-py>=2", "asyncpg", "alembic", "fastapi"]),
        (["both"], ["nats-py>=2", "asyncpg", "alembic", "fastapi"]),  # each once
    ],
)
def test_extras_are_resolved(extras: list[str], expected: list[str]) -> None:
    assert requirements(PROJECT, extras) == expected


@pytest.mark.parametrize("extra", ["gateway", "scheduler", "fetcher"])
def test_small_images_get_no_torch(extra: str) -> None:
    assert not [line for line in requirements(_our_project(), [extra]) if line.startswith("torch")]


def test_only_a_workers_image_can_ask_for_gpus() -> None:
    with_it = [
        extra
        for extra in ("gateway", "scheduler", "fetcher", "worker")
        if any(line.startswith("nvidia-ml-py") for line in requirements(_our_project(), [extra]))
    ]
    assert with_it == ["worker"]


def test_a_gateway_neither_gets_nor_imports_what_migrates() -> None:
    get = [line for line in requirements(_our_project(), ["gateway"]) if line.startswith("alembic")]
    imports = "import sys, services.gateway.bootstrap; sys.exit('alembic' in sys.modules)"

    assert not get
    assert subprocess.run([sys.executable, "-c", imports], cwd=_ROOT).returncode == 0


def _our_project() -> dict[str, object]:
    project: dict[str, object] = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    return project
