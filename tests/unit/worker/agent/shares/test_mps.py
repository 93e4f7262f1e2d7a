"""How workers share a GPU by CUDA's Multi-Process Service, without one."""

from pathlib import Path

import pytest

from services.worker.agent.shares.mps import find_mps, mps_environment

PIPES = Path("/run/mps")
DIRECTORY = {"CUDA_MPS_PIPE_DIRECTORY": "/run/mps"}


def test_the_service_runs_where_its_control_pipe_is(tmp_path: Path) -> None:
    environ = {"CUDA_MPS_PIPE_DIRECTORY": str(tmp_path)}
    assert find_mps(environ) is None

    (tmp_path / "control").touch()

    assert find_mps(environ) == tmp_path


@pytest.mark.parametrize(
    ("own", "neighbours", "percentage"),
    [
        pytest.param(40, [], None, id="alone it may use all, whatever it has reserved"),
        pytest.param(40, [40], "50", id="half of what is reserved"),
        pytest.param(10, [20, 70], "10", id="of three"),
        pytest.param(1, [2], "34", id="a third, rounded up"),
        pytest.param(1, [10_000], "1", id="never nothing"),
        pytest.param(10_000, [1], None, id="nearly all is all"),
    ],
)
def test_beside_neighbours_the_ceiling_is_its_part_of_what_all_have_reserved(
    own: int, neighbours: list[int], percentage: str | None
) -> None:
    expected = {"CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": percentage} if percentage else {}

    assert mps_environment(PIPES, own, neighbours) == {**DIRECTORY, **expected}


def test_with_caps_the_ceiling_is_its_part_of_the_device_also_alone() -> None:
    assert mps_environment(PIPES, 20, [], cap_of=80) == {
        **DIRECTORY,
        "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE": "25",
    }
