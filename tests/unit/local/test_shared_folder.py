"""The supervisor's folder in shared memory; an ordinary folder stands in for the tmpfs."""

import fcntl
import os
from pathlib import Path

import pytest

from deploy.local.processes.procfs import process_status
from deploy.local.state.shared_folder import shared_folder, sweep_shared_folders


def dead_folder(base: Path) -> Path:
    """As a supervisor leaves it whose process id was reused: ours, with another start time."""
    folder = base / f"hydraserve-{os.getpid()}-1"
    (folder / "node-0").mkdir(parents=True)
    (folder / "node-0" / "unit").write_bytes(b"weights")
    return folder


def test_the_folder_is_private_named_by_its_supervisor_and_removed(tmp_path: Path) -> None:
    own = process_status(os.getpid())
    assert own is not None

    with shared_folder(tmp_path) as folder:
        assert folder.name == f"hydraserve-{os.getpid()}-{own.start_ticks}"
        assert folder.stat().st_mode & 0o777 == 0o700
        (folder / "unit").write_bytes(b"weights")

    assert not list(tmp_path.iterdir())


def test_the_folder_is_removed_when_its_user_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), shared_folder(tmp_path):
        raise KeyboardInterrupt

    assert not list(tmp_path.iterdir())


def test_two_stacks_of_one_process_have_a_folder_each(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as first, shared_folder(tmp_path) as second:
        assert first != second


def test_a_dead_supervisors_folder_is_swept(tmp_path: Path) -> None:
    folder = dead_folder(tmp_path)

    assert sweep_shared_folders(tmp_path) == [folder]
    assert not folder.exists()


def test_a_living_supervisors_folder_stays(tmp_path: Path) -> None:
    with shared_folder(tmp_path) as folder:
        assert sweep_shared_folders(tmp_path) == []
        assert folder.exists()


def test_a_folder_whose_lock_is_held_stays_though_its_process_id_means_nothing_here(
    tmp_path: Path,
) -> None:
    folder = dead_folder(tmp_path)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        assert sweep_shared_folders(tmp_path) == []
    finally:
        os.close(descriptor)


def test_a_folder_that_its_supervisor_removes_meanwhile_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "hydraserve-1-2").symlink_to(tmp_path / "gone")

    assert sweep_shared_folders(tmp_path) == []


@pytest.mark.parametrize("name", ["hydraserve-notes", "hydraserve-1-2-x", "others-1-2"])
def test_what_is_not_a_supervisors_folder_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    assert sweep_shared_folders(tmp_path) == []
