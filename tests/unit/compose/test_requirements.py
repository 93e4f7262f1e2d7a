"""What an image has to install, out of pyproject.toml."""

import tomllib
from pathlib import Path

import pytest

from deploy.compose.requirements import requirements

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
    pyproject = Path(__file__).parents[3] / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text())["project"]

    assert not [line for line in requirements(project, [extra]) if line.startswith("torch")]
