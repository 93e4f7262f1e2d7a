"""How the tests are shared out when several processes run them (`make test`)."""

from pathlib import Path

import pytest

_TESTS = Path(__file__).parent
# Tests of one such folder share a running stack, which is expensive to start twice.
_SHARED_STACKS = ("acceptance/pipeline", "acceptance/compose", "acceptance")


@pytest.hookimpl(tryfirst=True)  # before the distribution reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item.path.relative_to(_TESTS))))


def _group(file: Path) -> str:
    """A stack's folder, or the file: its fixtures are shared by its tests only."""
    folders = [folder for folder in _SHARED_STACKS if file.is_relative_to(folder)]
    return folders[0] if folders else str(file)
