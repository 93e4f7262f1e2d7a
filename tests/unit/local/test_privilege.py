"""Which folders an unprivileged account can pass."""

import os
from pathlib import Path

import pytest

from deploy.local.processes.privilege import can_pass

STRANGER_UID = os.getuid() + 1


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (0o755, True),
        (0o711, True),  # passing a folder needs no right to list it
        (0o700, False),
        (0o744, False),  # listing it gives no right to pass
    ],
)
def test_a_stranger_passes_where_others_may_search(
    tmp_path: Path, mode: int, expected: bool
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)

    assert can_pass(folder, STRANGER_UID) is expected


def test_an_owner_passes_what_is_closed_to_others(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)

    assert can_pass(tmp_path, tmp_path.stat().st_uid)
