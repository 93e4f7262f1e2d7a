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
COMPOSE_FOLDER = PROJECT / "deploy" / "compose"
_CALL_TIMEOUT_S = 120.0
_CONFIG = ("config", "--format", "json")


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
    more_files: tuple[str, ...] = ()  # beside compose.yaml, laid over it

    def compose(self, *arguments: str, timeout_s: float = _CALL_TIMEOUT_S) -> str:
        """Standard output. Raises CalledProcessError with both outputs."""
        command = [*compose_command(), "--env-file", os.devnull, "--project-name", self.name]
        for file in ("compose.yaml", *self.more_files):
            command += ["--file", str(COMPOSE_FOLDER / file)]
        command += arguments
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

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.environment['HYDRA_PORT']}"

    def services(self) -> list[str]:
        """Also one-shots that have ended."""
        return self.compose("ps", "--all", "--services").split()

    def configuration(self) -> dict[str, Any]:
        """The compose file with all its profiles, as compose understands it."""
        output = self.compose("--profile", "tracing", "--profile", "metrics", *_CONFIG)
        found = json.loads(output)
        assert isinstance(found, dict)
        return found

    def down(self, timeout_s: float) -> None:
        self.compose("down", "--volumes", "--remove-orphans", timeout_s=timeout_s)

    def leftovers(self) -> list[str]:
        """Every container, volume and network of this project."""
        label = f"label=com.docker.compose.project={self.name}"
        listed = (["ps", "--all"], ["volume", "ls"], ["network", "ls"])
        return [
            line
            for command in listed
            for line in engine(*command, "--filter", label, "--quiet").split()
        ]


def engine(*arguments: str) -> str:
    return _run([*engine_command(), *arguments], dict(os.environ), _CALL_TIMEOUT_S)


def _run(command: list[str], environment: Mapping[str, str], timeout_s: float) -> str:
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout_s
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
