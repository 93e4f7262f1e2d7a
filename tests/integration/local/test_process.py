"""Child processes: they end as a group, by their deadline, and never later than their parent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.errors import StartFailed
from deploy.local.processes.hang_detector import HangDetector
from deploy.local.processes.orphans import end_orphans, has_variable, has_working_folder
from deploy.local.processes.privilege import unprivileged_account
from deploy.local.processes.probes import remove_before_start, touched_recently
from deploy.local.processes.process import ChildProcess, ProcessSpec
from deploy.local.processes.procfs import is_running
from deploy.local.processes.readiness import wait_until_ready
from deploy.local.processes.supervised import SupervisedProcess
from deploy.local.state.log_files import rotate_logs
from tests.support.waiting import eventually

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def spec(folder: Path, script: str, **changes: object) -> ProcessSpec:
    values: dict[str, object] = {
        "name": "child",
        "argv": ("/bin/sh", "-c", script),
        "env": {"PATH": os.environ["PATH"], "HYDRA_TEST_MARK": str(folder)},
        "cwd": folder,
        "log_path": folder / "logs" / "child.log",
    }
    return ProcessSpec(**(values | changes))  # type: ignore[arg-type]  # a table of keywords


def has_logged(child: ChildProcess, text: str) -> Callable[[], bool]:
    return lambda: text in child.log_tail()


def was_replaced(process: SupervisedProcess, pid: int | None) -> Callable[[], bool]:
    return lambda: process.pid not in (None, pid)


async def test_a_childs_exit_code_and_log_are_known(tmp_path: Path) -> None:
    child = ChildProcess(spec(tmp_path, "echo out; echo err >&2; exit 7"))

    assert await child.wait() == 7
    assert child.log_tail() == "out\nerr"


async def test_the_log_tail_is_of_this_run_only(tmp_path: Path) -> None:
    await ChildProcess(spec(tmp_path, "echo first")).wait()
    second = ChildProcess(spec(tmp_path, "echo second"))
    await second.wait()

    assert second.log_tail() == "second"
    assert second.spec.log_path.read_text() == "first\nsecond\n"


async def test_the_log_tail_is_known_after_a_rotation_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    await ChildProcess(spec(tmp_path, "echo of an earlier run")).wait()
    child = ChildProcess(spec(tmp_path, "echo a; read _ < go; echo b"))
    await eventually(has_logged(child, "a"), what="the first line")

    rotate_logs(child.spec.log_path.parent, max_bytes=1)
    (tmp_path / "go").write_text("on\n")

    assert await child.wait() == 0
    assert child.log_tail() == "b"


async def test_a_log_over_its_size_is_kept_once_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "child.log"
    path.parent.mkdir()
    path.write_bytes(b"x" * (16 * 2**20 + 1))

    await ChildProcess(spec(tmp_path, "echo new")).wait()

    assert path.read_text() == "new\n"
    assert path.with_name("child.log.1").stat().st_size > 16 * 2**20


async def test_a_child_that_ignores_the_request_is_killed_at_its_deadline(tmp_path: Path) -> None:
    child = ChildProcess(spec(tmp_path, STUBBORN, stop_timeout_s=0.2))
    await eventually(has_logged(child, "ready"))

    assert await child.stop() == -signal.SIGKILL


async def test_a_childs_own_children_end_with_it(tmp_path: Path) -> None:
    child = ChildProcess(spec(tmp_path, "sleep 1000 & echo $!; wait"))
    await eventually(lambda: child.log_tail().isdigit())
    grandchild = int(child.log_tail())

    await child.stop()

    await eventually(lambda: not is_running(grandchild))


async def test_children_die_with_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time; from deploy.local.processes.process import ChildProcess;"
        "from tests.integration.local.test_process import spec;"
        "folder = pathlib.Path(sys.argv[1]); child = ChildProcess(spec(folder, 'sleep 1000'));"
        "(folder / 'new').write_text(str(child.pid)); (folder / 'new').rename(folder / 'pid');"
        "time.sleep(1000)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    parent = await asyncio.to_thread(subprocess.Popen, command, stdin=subprocess.DEVNULL)
    pid_file = tmp_path / "pid"
    await eventually(pid_file.exists, timeout_s=30)
    child_pid = int(await asyncio.to_thread(pid_file.read_text))
    assert is_running(child_pid)

    parent.kill()
    await asyncio.to_thread(parent.wait)

    await eventually(lambda: not is_running(child_pid))


async def test_a_child_that_ends_before_it_is_ready_is_reported_with_its_log(
    tmp_path: Path,
) -> None:
    child = ChildProcess(spec(tmp_path, "echo 'no port left'; exit 3"))

    with pytest.raises(StartFailed, match="child ended with exit code 3\nno port left"):
        await wait_until_ready(child, never, 5)


async def test_a_child_that_never_gets_ready_is_reported_at_the_deadline(tmp_path: Path) -> None:
    child = ChildProcess(spec(tmp_path, "echo waiting; sleep 1000"))
    try:
        await eventually(has_logged(child, "waiting"))
        with pytest.raises(StartFailed, match=r"was not ready within 0\.1 s\nwaiting"):
            await wait_until_ready(child, never, 0.1)
    finally:
        child.kill_now()


async def test_a_child_that_keeps_failing_is_started_ever_more_slowly(tmp_path: Path) -> None:
    process = SupervisedProcess(spec(tmp_path, "exec sleep 1000"), always, ready_timeout_s=5)
    await process.start()
    try:
        loop = asyncio.get_running_loop()
        times = []
        for _ in range(3):
            started, pid = loop.time(), process.pid
            process.send_signal(signal.SIGKILL)
            await eventually(was_replaced(process, pid), timeout_s=30)
            times.append(loop.time() - started)
    finally:
        await process.stop()

    assert all(time_s >= 0.1 * 2**number for number, time_s in enumerate(times))


async def test_a_child_whose_way_is_not_clear_is_tried_again(tmp_path: Path) -> None:
    num_calls = 0

    async def clear_the_way() -> None:
        nonlocal num_calls
        num_calls += 1
        if num_calls == 2:
            raise StartFailed("child", "what an earlier one left does not go", "")

    process = SupervisedProcess(
        spec(tmp_path, "exec sleep 1000"),
        always,
        ready_timeout_s=5,
        before_start=clear_the_way,
    )
    await process.start()
    try:
        first = process.pid
        process.send_signal(signal.SIGKILL)

        await eventually(was_replaced(process, first))
    finally:
        await process.stop()

    assert num_calls == 3


async def test_a_killed_child_is_not_taken_for_a_ready_one(tmp_path: Path) -> None:
    process = SupervisedProcess(spec(tmp_path, "exec sleep 1000"), always, ready_timeout_s=5)
    await process.start()
    try:
        first = process.pid
        process.send_signal(signal.SIGKILL)
        assert process.pid is None

        await process.wait_ready()

        assert process.pid not in (None, first)
    finally:
        await process.stop()


async def test_a_child_that_hangs_is_killed_and_started_again(tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    is_fresh, looks = touched_recently(sign, within_s=5), list[bool]()

    async def look() -> bool:
        looks.append(await is_fresh())
        return looks[-1]

    process = SupervisedProcess(
        spec(tmp_path, f"while :; do touch {sign}; sleep 0.05; done"),
        always,
        ready_timeout_s=5,
        before_start=remove_before_start(sign),
        hang_detector=HangDetector(look, period_s=0.1, max_misses=3),
    )
    await process.start()
    try:
        await eventually(lambda: any(looks))
        first = process.pid
        process.send_signal(signal.SIGSTOP)
        os.utime(sign, (0, 0))  # as if it had stood still for long

        await eventually(was_replaced(process, first), timeout_s=30)
        await eventually(sign.exists)
        assert process.num_starts == 2
    finally:
        await process.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")
async def test_an_account_with_a_capability_finds_programs_in_a_closed_folder(
    tmp_path: Path,
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    program = closed / "program"
    program.write_text("#!/bin/sh\necho ran")
    program.chmod(0o755)
    account = unprivileged_account((program,))
    assert account is not None and account.kept_capability is not None

    found = f"import os; print(os.access({str(program)!r}, os.R_OK | os.X_OK), os.getuid())"
    looks = ChildProcess(spec(tmp_path, "", argv=(sys.executable, "-c", found), account=account))
    assert await looks.wait() == 0
    runs = ChildProcess(spec(tmp_path, "", argv=(str(program),), account=account))
    assert await runs.wait() == 0

    assert looks.log_tail() == f"True {account.uid}\nran"


async def test_stopping_is_for_good(tmp_path: Path) -> None:
    process = SupervisedProcess(spec(tmp_path, "exec sleep 1000"), always, ready_timeout_s=5)
    await process.start()

    await process.stop()
    await process.stop()

    assert process.pid is None
    assert process.num_starts == 1


async def test_strays_are_found_by_what_they_hold_and_ended(tmp_path: Path) -> None:
    by_variable = ChildProcess(spec(tmp_path, "exec sleep 1000", name="a"))
    folder = tmp_path / "folder"
    folder.mkdir()
    by_folder = ChildProcess(spec(tmp_path, "exec sleep 1000", name="b", cwd=folder, env={}))

    assert end_orphans(has_variable("HYDRA_TEST_MARK", str(tmp_path)), 5) == 1
    assert await by_variable.wait() == -signal.SIGKILL
    assert not by_folder.has_exited()
    assert end_orphans(has_working_folder(folder), 5) == 1
    assert await by_folder.wait() == -signal.SIGKILL
    assert end_orphans(has_working_folder(folder), 5) == 0


async def always() -> bool:
    return True


async def never() -> bool:
    return False
