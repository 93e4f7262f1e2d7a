"""What parses strangers' files reaches nothing but the file and its folder, whoever its user is."""

import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.fetcher.errors import ImportRefused
from services.fetcher.imports import landlock
from services.fetcher.imports.conversion_account import Account, child_account, given_copy
from services.fetcher.imports.gguf_conversion import ConversionLimits, _is_confined
from services.fetcher.imports.source import opened_file

PROJECT = Path(__file__).parents[3]
needs_landlock = pytest.mark.skipif(landlock.version() == 0, reason="the kernel has no Landlock")
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")

# Everything is tried in one process, which says what became of each attempt.
SCRIPT = """
import json, os, resource, socket, sys
from pathlib import Path
from services.fetcher.imports.gguf_child import give_up_rights

descriptor, folder, secret, parent, port = int(sys.argv[1]), *sys.argv[2:4], *map(int, sys.argv[4:])
if os.environ.get("CONFINED") == "1":
    give_up_rights(descriptor, Path(folder))

def attempt(action):
    try:
        action()
    except OSError as exc:
        return type(exc).__name__
    return "done"

print(json.dumps({
    "reads the secret file": attempt(lambda: open(secret).read()),
    "reads it by way of the parent's root":
        attempt(lambda: open(f"/proc/{parent}/root{secret}").read()),
    "lists its folder": attempt(lambda: os.listdir(os.path.dirname(secret))),
    "overwrites the secret file": attempt(lambda: open(secret, "a").close()),
    "reads the parent's environment": attempt(lambda: open(f"/proc/{parent}/environ").read()),
    "reads the parent's memory": attempt(lambda: open(f"/proc/{parent}/mem", "rb").close()),
    "signals the parent": attempt(lambda: os.kill(parent, 0)),
    "connects": attempt(lambda: socket.create_connection(("127.0.0.1", port), 5).close()),
    "reads the source": attempt(lambda: open(f"/proc/self/fd/{descriptor}").read()),
    "writes to its folder": attempt(lambda: Path(folder, "model").write_text("x")),
    "capabilities": open("/proc/self/status").read().split("CapEff:")[1].split()[0],
    "forbids new privileges": open("/proc/self/status").read().split("NoNewPrivs:")[1].split()[0],
}))
"""
FORBIDDEN = (
    "reads the secret file",
    "reads it by way of the parent's root",
    "lists its folder",
    "overwrites the secret file",
    "reads the parent's environment",
    "reads the parent's memory",
)
ALLOWED = ("reads the source", "writes to its folder")


@dataclass(frozen=True)
class Place:
    folder: Path
    source: Path
    secret: Path
    port: int

    def attempts(self, *, is_confined: bool) -> dict[str, str]:
        descriptor = os.open(self.source, os.O_RDONLY)
        arguments = map(str, (descriptor, self.folder, self.secret, os.getpid(), self.port))
        environment = {"PYTHONPATH": str(PROJECT), "CONFINED": str(int(is_confined))}
        try:
            ended = subprocess.run(
                [sys.executable, "-c", SCRIPT, *arguments],
                env=environment,
                pass_fds=[descriptor],
                check=True,
                capture_output=True,
                timeout=60,
            )
        finally:
            os.close(descriptor)
        found: dict[str, str] = json.loads(ended.stdout)
        return found


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    folder, source = tmp_path / "convert", tmp_path / "models" / "model.gguf"
    secret = tmp_path / "secrets" / "s3-secret-key"
    for path in (folder / "x", source, secret):
        path.parent.mkdir()
    source.write_text("GGUF")
    secret.write_text("secret")
    secret.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Place(folder, source, secret, server.getsockname()[1])


@needs_landlock
def test_a_converter_finds_no_secret_of_its_parent_although_it_is_the_same_user(
    place: Place,
) -> None:
    found = place.attempts(is_confined=True)

    assert {name: found[name] for name in FORBIDDEN} == dict.fromkeys(FORBIDDEN, "PermissionError")
    assert {name: found[name] for name in ALLOWED} == dict.fromkeys(ALLOWED, "done")
    assert int(found["capabilities"], 16) == 0
    assert found["forbids new privileges"] == "1"
    if landlock.version() >= 4:
        assert found["connects"] == "PermissionError"
    if landlock.version() >= 6:
        assert found["signals the parent"] == "PermissionError"


def test_without_that_it_would_find_all_of_it(place: Place) -> None:
    """So the attempts are real ones."""
    found = place.attempts(is_confined=False)

    readable = ("reads the secret file", "lists its folder", "connects", "signals the parent")
    assert {name: found[name] for name in readable} == dict.fromkeys(readable, "done")


@pytest.mark.parametrize(
    ("landlock_version", "may_be_unconfined", "expected"),
    [(0, True, False), (1, False, True), (7, False, True), (7, True, True)],
)
def test_a_conversion_is_confined_wherever_it_can_be(
    landlock_version: int, may_be_unconfined: bool, expected: bool
) -> None:
    limits = ConversionLimits(1 << 30, 10, may_be_unconfined=may_be_unconfined)

    assert _is_confined(limits, landlock_version) is expected


def test_where_it_cannot_be_the_import_is_refused_with_what_to_do() -> None:
    with pytest.raises(ImportRefused, match="CONVERT_UNCONFINED") as caught:
        _is_confined(ConversionLimits(1 << 30, 10), 0)

    assert caught.value.code == "conversion_unconfined"


@is_root
def test_a_root_importers_converter_is_another_user(tmp_path: Path) -> None:
    """With no group but its own."""
    nobody = pwd.getpwnam("nobody")
    account = Account(nobody.pw_uid, nobody.pw_gid)

    told = subprocess.run(["/usr/bin/id"], capture_output=True, text=True, **account.of_subprocess)

    uid, gid = nobody.pw_uid, nobody.pw_gid
    assert told.stdout.startswith(f"uid={uid}(nobody) gid={gid}(")
    assert told.stdout.rstrip().split("groups=")[1].startswith(f"{gid}(")
    assert "," not in told.stdout


@is_root
@pytest.mark.parametrize(("mode", "is_dropped"), [(0o711, True), (0o700, False)])
def test_the_converter_is_another_user_where_that_one_can_come(mode: int, is_dropped: bool) -> None:
    folder = Path(f"/tmp/hydra-test-{os.getpid()}-{mode:o}")  # the tests' own folders are closed
    work = folder / "convert-1"
    work.mkdir(parents=True)
    folder.chmod(mode)
    try:
        account = child_account([Path("/usr/bin/id")], work)

        assert (account is not None) is is_dropped
        assert (work.stat().st_uid != 0) is is_dropped
    finally:
        work.rmdir()
        folder.rmdir()


@is_root
def test_another_user_is_given_a_copy_of_a_file_that_it_could_not_open(tmp_path: Path) -> None:
    source = tmp_path / "model.gguf"
    source.write_bytes(b"GGUF" * 1000)
    source.chmod(0o600)
    with (
        opened_file(source, [tmp_path]) as file,
        given_copy(file, tmp_path, Account(4321, 4321)) as descriptor,
    ):
        assert os.pread(descriptor, 8000, 0) == source.read_bytes()
        found = os.fstat(descriptor)
        assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (4321, 4321, 0o600)
    assert os.listdir(tmp_path) == ["model.gguf"]
