import asyncio
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libs.common.cause_words import words
from services.worker.agent.processes.launcher import ProcessLauncher, worker_environment
from services.worker.agent.processes.process_log import (
    MAX_LOG_BYTES,
    MAX_LOGS,
    WorkerLog,
    prepare_log_folder,
)
from services.worker.agent.processes.worker_process import Exit
from services.worker.errors import LaunchError
from tests.support.devices import GPU_UUID, cpu, gpu

CPU, GPU = cpu(), gpu()


@pytest.mark.parametrize(
    ("exit_", "cause"),
    [
        (Exit(3), "the worker process exited with code 3"),
        (Exit(-9), "the worker process was killed by SIGKILL"),
        (Exit(-99), "the worker process was killed by signal 99"),
        (
            Exit(1, ("a", "b", "", "c", "d")),
            "the worker process exited with code 1: b | c | d",
        ),
        (
            Exit(-9, ("a",), "no descriptor"),
            "the worker process could not be watched: no descriptor: a",
        ),
    ],
)
def test_an_exit_is_told_in_words_with_the_last_lines(exit_: Exit, cause: str) -> None:
    assert words(exit_.cause) == cause


def test_a_worker_inherits_only_what_is_on_the_list() -> None:
    environ = {
        "PATH": "/bin",
        "HYDRA_NATS_PASSWORD_FILE": "/secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "HOME": "/home/someone",
    }
    found = worker_environment(environ, CPU)
    assert set(found) == {
        "PATH",
        "PYTHONUNBUFFERED",
        "CUDA_VISIBLE_DEVICES",
        "OMP_NUM_THREADS",
        "MKL_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "GOMP_SPINCOUNT",
    }


async def test_a_worker_finds_what_it_is_given_beside_what_all_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {said}\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))

    process = await ProcessLauncher(tmp_path).launch("worker-a", GPU, {"EXTRA": "yes"})
    await asyncio.wait_for(process.wait(), 30)
    process.socket.close()

    lines = said.read_text().splitlines()
    assert {"EXTRA=yes", f"CUDA_VISIBLE_DEVICES={GPU_UUID}"} <= set(lines)


@pytest.mark.parametrize(
    "agents",
    [
        pytest.param({}, id="CUDA's own count"),
        pytest.param({"CUDA_VISIBLE_DEVICES": "4,6"}, id="the agent counts among some"),
        pytest.param({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, id="the agent counts in another order"),
    ],
)
def test_a_worker_sees_its_own_gpu_only_whatever_the_agent_counts(agents: dict[str, str]) -> None:
    found = worker_environment(agents, GPU)
    assert found["CUDA_VISIBLE_DEVICES"] == GPU_UUID
    assert "CUDA_DEVICE_ORDER" not in found
    assert worker_environment(agents, CPU)["CUDA_VISIBLE_DEVICES"] == ""
    assert worker_environment(agents, None)["CUDA_VISIBLE_DEVICES"] == ""


async def test_a_process_that_cannot_be_started_is_a_launch_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(LaunchError, match="no worker process"):
        await ProcessLauncher(tmp_path).launch("worker-a", CPU)


async def test_a_folder_that_cannot_be_made_costs_the_logs_alone(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.write_text("a file is in the way")

    process = await ProcessLauncher(run_dir).launch("worker-a", CPU)

    process.socket.close()  # it ends without its agent
    await asyncio.wait_for(process.wait(), 30)


async def test_a_process_that_cannot_be_watched_is_killed_and_says_why(tmp_path: Path) -> None:
    process = await ProcessLauncher(tmp_path).launch("worker-a", CPU)
    with no_descriptors_left():
        exit_ = await asyncio.wait_for(process.wait(), 10)

    assert exit_.code == -signal.SIGKILL
    assert words(exit_.cause).startswith("the worker process could not be watched: [Errno 24]")
    await asyncio.wait_for(process.stop(), 1)
    process.socket.close()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_pipe_is_read_to_its_end_where_its_file_cannot_be_written(tmp_path: Path) -> None:
    log = WorkerLog(tmp_path / "no such folder" / "worker.log")
    await follow(log, b"the last words\n")
    assert log.last_lines == ("the last words",)


async def follow(log: WorkerLog, *pieces: bytes) -> None:
    pipe = asyncio.StreamReader()
    for piece in pieces:
        pipe.feed_data(piece)
    pipe.feed_eof()
    await log.follow(pipe)


def sizes_in(folder: Path) -> list[int]:
    return [path.stat().st_size for path in folder.iterdir()]


async def test_the_last_lines_are_remembered_also_an_unfinished_one(tmp_path: Path) -> None:
    log = WorkerLog(tmp_path / "worker.log")
    await follow(log, b"".join(b"line %d\n" % i for i in range(100)), b"and the", b" end")
    assert log.last_lines[-2:] == ("line 99", "and the end")
    assert len(log.last_lines) <= 21
    assert (tmp_path / "worker.log").read_bytes().startswith(b"line 0\n")


async def test_a_log_on_disk_is_bounded(tmp_path: Path) -> None:
    log = WorkerLog(tmp_path / "worker.log")
    await follow(log, *(b"x" * 60_000 for _ in range(50)), b"\nthe end\n")
    sizes = sizes_in(tmp_path)
    assert max(sizes) <= MAX_LOG_BYTES and len(sizes) == 2
    assert log.last_lines[-1] == "the end"


def test_logs_of_long_gone_workers_are_removed(tmp_path: Path) -> None:
    for number in range(MAX_LOGS + 5):
        (tmp_path / f"worker-{number}.log").touch()
    prepare_log_folder(tmp_path)
    assert len(list(tmp_path.iterdir())) == MAX_LOGS
