"""What the stack in containers does, and what it shows to nobody."""

import json
import subprocess

import pytest

from tests.acceptance.client import Client
from tests.acceptance.compose.engine import Project, engine

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.long,
    pytest.mark.timeout(3600),
]

OURS = ("gateway-0", "scheduler-0", "importer", "fetcher-0", "agent-0", "bootstrap")
IMAGES = ("gateway", "scheduler", "fetcher", "worker", "importer", "bootstrap", "proxy")
SMALL_IMAGE_BYTES = 250_000_000
# A file that every container has, and whose content is no password.
WRONG_SECRET = "/etc/hostname"


async def test_a_cold_model_answers_through_the_proxy(client: Client, model: str) -> None:
    answer = await client.stream(model, "hello", max_tokens=20, temperature=0)

    assert answer.is_complete, answer
    assert len(await client.get("/api/v1/nodes")) == 4


async def test_metrics_are_not_for_the_outside(client: Client) -> None:
    assert (await client.http.get("/metrics")).status_code == 404


async def test_only_the_proxy_listens_on_this_machine(project: Project, client: Client) -> None:
    hosts = {s: project.inspect(s)["HostConfig"] for s in project.services()}

    assert {s for s, host in hosts.items() if host["PortBindings"]} == {"proxy"}
    assert not {s for s, host in hosts.items() if host["NetworkMode"] == "host"}


@pytest.mark.parametrize(
    ("service", "reached"),
    [
        ("gateway-0", {"nats", "postgres", "minio", "gateway-1"}),
        ("scheduler-0", {"nats", "postgres", "gateway-1"}),
        ("fetcher-0", {"nats", "minio"}),
        ("importer", {"nats", "minio"}),
        ("agent-0", {"nats"}),
    ],
)
async def test_a_service_reaches_whom_it_needs_and_nobody_else(
    project: Project, client: Client, service: str, reached: set[str]
) -> None:
    found = project.compose("exec", "-T", service, "python", "-c", REACH)

    assert set(found.split()) == reached


# Who answers, of those that a service may or may not meet; `outside` where a route leads there.
REACH = """
import socket
for host, port in (("nats", 4222), ("postgres", 5432), ("minio", 9000), ("gateway-1", 8080)):
    try:
        socket.create_connection((host, port), 2).close()
    except OSError:
        continue
    print(host)
routes = [line.split() for line in open("/proc/net/route").readlines()[1:]]
if any(destination == "00000000" for _, destination, *_ in routes):
    print("outside")
"""


@pytest.mark.parametrize("service", OURS)
async def test_our_containers_are_unprivileged_and_cannot_change_themselves(
    project: Project, client: Client, service: str
) -> None:
    found = project.inspect(service)

    assert found["Config"]["User"].partition(":")[0] not in ("", "0", "root")
    assert found["HostConfig"]["ReadonlyRootfs"]
    assert "no-new-privileges" in str(found["HostConfig"]["SecurityOpt"])


async def test_no_secret_is_in_an_inspection_a_log_or_an_image(
    project: Project, client: Client, model: str, secrets: dict[str, str]
) -> None:
    shown = [project.compose("config"), project.compose("logs", "--no-color")]
    shown += [engine("inspect", project.container(service)) for service in project.services()]
    for image in IMAGES:
        shown += [engine("image", "inspect", f"hydraserve/{image}:dev")]
        shown += [engine("history", "--no-trunc", f"hydraserve/{image}:dev")]

    leaked = {name for name, secret in secrets.items() if any(secret in text for text in shown)}

    assert not leaked


@pytest.mark.parametrize("image", IMAGES)
async def test_no_compiler_is_left_in_an_image(client: Client, image: str) -> None:
    name, look = f"hydraserve/{image}:dev", "command -v cc gcc g++ clang ld as strip make || true"

    assert engine("run", "--rm", "--entrypoint", "sh", name, "-c", look) == ""


@pytest.mark.parametrize(
    "service", ("gateway-0", "scheduler-0", "importer", "fetcher-0", "agent-0")
)
async def test_everything_is_compiled_in_an_image(
    project: Project, client: Client, service: str
) -> None:
    assert project.compose("exec", "-T", service, "python", "-c", UNCOMPILED) == ""


# Modules without bytecode, but for empty ones and those that are no Python of this version.
UNCOMPILED = """
import ast, importlib.util, pathlib
for folder in ("/app", "/opt/hydraserve/lib"):
    for path in pathlib.Path(folder).rglob("*.py"):
        text = path.read_bytes()
        if text and not pathlib.Path(importlib.util.cache_from_source(str(path))).exists():
            try:
                ast.parse(text)
            except SyntaxError:
                continue
            print(path)
"""


async def test_the_bus_says_stored_only_of_what_is_on_its_volume(
    project: Project, client: Client
) -> None:
    address = "http://127.0.0.1:8222/varz"

    told = json.loads(project.compose("exec", "-T", "nats", "wget", "-q", "-O", "-", address))

    stored = told["jetstream"]["config"]
    assert stored["sync_always"] is True
    assert stored["store_dir"].startswith("/data/")
    mounted = {m["Destination"]: m["Type"] for m in project.inspect("nats")["Mounts"]}
    assert mounted["/data"] == "volume"


@pytest.mark.parametrize("image", ("gateway", "scheduler", "fetcher"))
async def test_images_without_torch_are_small(client: Client, image: str) -> None:
    size_bytes = int(engine("image", "inspect", "-f", "{{.Size}}", f"hydraserve/{image}:dev"))

    assert size_bytes < SMALL_IMAGE_BYTES


@pytest.mark.parametrize(
    ("service", "setting", "complaint"),
    [
        ("gateway-0", "NATS_PASSWORD", "uthorization"),
        ("scheduler-0", "NATS_PASSWORD", "uthorization"),
        ("fetcher-0", "NATS_PASSWORD", "uthorization"),
        ("agent-0", "NATS_PASSWORD", "uthorization"),
        ("scheduler-0", "DATABASE_PASSWORD", "password authentication failed"),
        ("gateway-0", "DATABASE_PASSWORD", "password authentication failed"),
    ],
)
async def test_a_wrong_password_is_refused(
    project: Project, client: Client, service: str, setting: str, complaint: str
) -> None:
    wrong = ("--env", f"HYDRA_{setting}_FILE={WRONG_SECRET}")

    said = _failing_run(project, *wrong, service)

    assert complaint in said


@pytest.mark.parametrize("service", ("gateway-0", "fetcher-0", "importer"))
async def test_the_object_store_refuses_a_wrong_key(
    project: Project, client: Client, model: str, service: str
) -> None:
    wrong = ("--env", f"HYDRA_S3_SECRET_KEY_FILE={WRONG_SECRET}")

    said = _failing_run(project, *wrong, "--entrypoint", "python", service, "-c", READ_STORE)

    assert "ObjectStoreRefused" in said


READ_STORE = """
import asyncio, os
from libs.common.objectstore.s3store import S3ObjectStore
from libs.common.settings import Environment, ObjectStoreSettings

async def read():
    async with S3ObjectStore(ObjectStoreSettings.read(Environment(os.environ))) as store:
        await store.list_keys("")

asyncio.run(read())
"""


def _failing_run(project: Project, *arguments: str) -> str:
    """What one more container of a service says before it gives up; nobody waits for it long."""
    name = project.container("failing")
    try:
        project.compose("run", "--rm", "--name", name, "--no-deps", "-T", *arguments, timeout_s=30)
    except (AssertionError, subprocess.TimeoutExpired) as exc:
        return str(exc) if isinstance(exc, AssertionError) else _said(exc)
    finally:
        # One that does not give up outlives the command that ran it.
        if left := engine("ps", "--all", "--quiet", "--filter", f"name={name}").split():
            engine("rm", "--force", *left)
    raise AssertionError(f"{arguments} ended well")


def _said(timeout: subprocess.TimeoutExpired) -> str:
    return "".join(part.decode() for part in (timeout.stdout, timeout.stderr) if part)
