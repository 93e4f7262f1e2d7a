"""A service that is told to hides its environment and memory from others of its user."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]

# Without capabilities, as a container's processes are: root's own right to look is not the point.
SERVICE = """
import os
from libs.common.process.prctl import drop_capabilities
from libs.common.process.privacy import hide_process
from libs.common.settings import Environment
drop_capabilities()
hide_process(Environment(os.environ))
print("ready", flush=True)
input()
"""
NEIGHBOUR = """
import sys
from libs.common.process.prctl import drop_capabilities
drop_capabilities()
for name in ("environ", "mem"):
    try:
        open(f"/proc/{sys.argv[1]}/{name}", "rb").close()
        print("readable")
    except PermissionError:
        print("hidden")
"""


@pytest.mark.parametrize(("told", "expected"), [("1", "hidden"), ("0", "readable")])
def test_a_neighbour_of_the_same_user_cannot_look_into_it(told: str, expected: str) -> None:
    environment = {"PYTHONPATH": str(PROJECT), "HYDRA_FORBID_INSPECTION": told}
    service = subprocess.Popen(
        [sys.executable, "-c", SERVICE],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert service.stdout is not None and service.stdout.readline() == b"ready\n"

        seen = subprocess.run(
            [sys.executable, "-c", NEIGHBOUR, str(service.pid)],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
    finally:
        service.communicate(b"\n", timeout=60)

    assert seen.stdout.split() == [expected] * 2


@pytest.mark.parametrize(
    "service", ["gateway", "scheduler", "fetcher", "fetcher/imports", "worker"]
)
def test_every_service_hides_itself_before_it_reads_a_secret(service: str) -> None:
    main = (PROJECT / "services" / service / "__main__.py").read_text()

    assert "hide_process(" in main
    assert main.index("hide_process(") < main.index("Settings.read(")
