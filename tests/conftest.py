"""How the tests are shared out when several processes run them (`make test`)."""

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer  # type: ignore[import-untyped]  # the library has no types
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # nor here

pytest_plugins = ["tests.support.figures", "tests.support.rerun.plugin"]

# How long an example takes says more of the machine, which others use too, than of the code.
settings.register_profile(
    "shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("shared machine")


@cache
def _has_cuda() -> bool:
    import torch  # only where a test asks

    return torch.cuda.is_available()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and not _has_cuda():
        pytest.skip("there is no CUDA device")


# Tests of one such folder share a running stack, which is expensive to start twice.
_SHARED_STACKS = ("tests/acceptance/pipeline", "tests/acceptance/compose", "tests/acceptance")


class ByStack(LoadScopeScheduling):  # type: ignore[misc]  # the library has no types
    """What shares a stack goes to one process, and so does a file: its fixtures are its own."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.split("::", 1)[0])
        folders = [folder for folder in _SHARED_STACKS if file.is_relative_to(folder)]
        return folders[0] if folders else str(file)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    return ByStack(config, log)
