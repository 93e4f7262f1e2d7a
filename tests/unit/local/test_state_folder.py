"""Where the state folder is, and that one supervisor holds it."""

import os
import subprocess
from pathlib import Path

import pytest

from deploy.local.errors import StateFolderBusy, StateFolderError
from deploy.local.state.locks import exclusive_lock
from deploy.local.state.state_folder import StateFolder


def test_the_environment_names_the_folder(tmp_path: Path) -> None:
    assert StateFolder.from_environment({"HYDRASERVE_STATE": str(tmp_path)}).path == tmp_path


@pytest.mark.parametrize("environment", [{}, {"HYDRASERVE_STATE": ""}])
def test_the_default_lies_where_we_are(environment: dict[str, str]) -> None:
    assert StateFolder.from_environment(environment).path == Path.cwd() / ".hydraserve"


def test_a_second_holder_is_refused_with_the_first_ones_process_id(tmp_path: Path) -> None:
    state = StateFolder(tmp_path / "state")

    with state.locked(), pytest.raises(StateFolderBusy, match=f"process id {os.getpid()}"):
        with StateFolder(tmp_path / "state").locked():
            pass


def test_a_dead_holders_last_child_is_waited_for(tmp_path: Path) -> None:
    """A child between fork and exec has all descriptors, the lock's too, for a moment."""
    state = StateFolder(tmp_path)
    no_process = 2**22 + 1
    with exclusive_lock(tmp_path / "lock") as descriptor:
        os.write(descriptor, str(no_process).encode())
        ghost = subprocess.Popen(["sleep", "0.3"], pass_fds=[descriptor])

    with state.locked():
        assert ghost.poll() == 0, "the lock was had while it was held"


def test_the_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    with state.locked():
        pass

    with state.locked():
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(StateFolderError, match="file/state"):
        with StateFolder(tmp_path / "file" / "state").locked():
            pass


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    foreign = Path("/")
    if os.geteuid() == 0:
        foreign = tmp_path
        os.chown(foreign, 12_345, -1)

    with pytest.raises(StateFolderError, match=f"belongs to user id {foreign.stat().st_uid}"):
        with StateFolder(foreign).locked():
            pass
