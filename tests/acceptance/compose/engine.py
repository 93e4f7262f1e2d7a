"""A container engine at hand, driven as an operator would: COMPOSE and ENGINE are its commands."""

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[3]
COMPOSE_FILE = PROJECT / "deploy" / "compose" / "compose.yaml"
_CALL_TIMEOUT_S = 120.0


def compose_command() -> list[str]:
    return shlex.split(os.environ.get("COMPOSE", "docker compose"))


def engine_command() -> list[str]:
    return shlex.split(os.environ.get("ENGINE", "docker"))


def why_unusable() -> str | None:
    """What is missing, for a person to read; None when everything is there."""
    for variable, command in (("COMPOSE", compose_command()), ("ENGINE", engine_command())):
        try:
            done = subprocess.run([*command, "ps"], capture_output=True, timeout=_CALL_TIMEOUT_S)
        except OSError as exc:
            return f"no container engine: {exc}; set {variable}"
        # `compose ps` minds that there is no file here; that it runs is all that is asked.
        if done.returncode != 0 and b"no configuration file" not in done.stderr:
            return f"`{shlex.join(command)} ps` fails: {done.stderr.decode().strip()[-200:]}"
    return None


@dataclass(frozen=True)
class Project:
    """One run of the compose file, with its own name, port, secrets and volumes."""

    name: str
    environment: Mapping[str, str] = field(repr=False)

    def compose(self, *arguments: str, timeout_s: float = _CALL_TIMEOUT_S) -> str:
        """Standard output. Raises CalledProcessError with both outputs."""
        files = ("--file", str(COMPOSE_FILE), "--env-file", os.devnull)
        command = [*compose_command(), *files, "--project-name", self.name, *arguments]
        return _run(command, {**os.environ, **self.environment}, timeout_s)

    def container(self, service: str) -> str:
        return f"{self.name}-{service}-1"

    def inspect(self, service: str) -> dict[str, Any]:
        output = engine("inspect", self.container(service))
        (found,) = json.loads(output)
        assert isinstance(found, dict)
        return found

    def pid(self, service: str) -> int:
        """Of the container's first process, as this machine counts; 0 while it is down."""
        return int(self.inspect(service)["State"]["Pid"])

    def is_healthy(self, service: str) -> bool:
        state = self.inspect(service)["State"]
        health = state.get("Health") or state.get("Healthcheck") or {}
        return bool(state["Running"]) and health.get("Status") == "healthy"

    def services(self) -> list[str]:
        return self.compose("ps", "--services").split()


def engine(*arguments: str) -> str:
    return _run([*engine_command(), *arguments], dict(os.environ), _CALL_TIMEOUT_S)


def _run(command: list[str], environment: Mapping[str, str], timeout_s: float) -> str:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
