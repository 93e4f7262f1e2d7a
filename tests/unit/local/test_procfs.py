"""Reading the process table."""

import os
import subprocess

from deploy.local.processes.procfs import all_pids, is_running, process_status
from deploy.local.processes.worker_processes import descendants

NO_PROCESS = 2**22 + 1  # above the kernel's highest id


def test_we_run_and_our_parent_is_known() -> None:
    status = process_status(os.getpid())

    assert status is not None
    assert status.is_running
    assert status.parent_pid == os.getppid()
    assert os.getpid() in all_pids()


def test_what_does_not_exist_does_not_run() -> None:
    assert process_status(NO_PROCESS) is None
    assert not is_running(NO_PROCESS)


def test_a_zombie_has_ended_and_is_nobodys_descendant() -> None:
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

        assert process_status(child.pid) is not None
        assert not is_running(child.pid)
        assert child.pid not in descendants([os.getpid()])


def test_descendants_are_found_over_generations() -> None:
    command = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        try:
            assert {child.pid, grandchild} <= set(descendants([os.getpid()]))
        finally:
            os.kill(grandchild, 9)
