"""In a process of its own: the reaper looks at all children that there are."""

import subprocess
import sys

CODE = """
import os, sys
from services.worker.agent.standby.orphans import OrphanReaper

def ended_child(code):
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return pid

reaper = OrphanReaper()
reaper.look()  # without any child
watched = ended_child(7)
reaper.look()
assert os.waitstatus_to_exitcode(os.waitpid(watched, 0)[1]) == 7, "it was left to its watcher"
strangers = [ended_child(0), ended_child(0)]
for _ in range(4):
    reaper.look()
for pid in strangers:
    assert not os.path.exists(f"/proc/{pid}"), "nobody else would have reaped it"
running = os.fork()
if running == 0:
    os.read(os.pipe()[0], 1)
reaper.look()
reaper.look()
os.kill(running, 9)
assert os.waitpid(running, 0)[1] == 9
"""


def test_only_an_ended_child_whom_nobody_reaps_meanwhile_is_an_orphan() -> None:
    subprocess.run([sys.executable, "-c", CODE], timeout=60, check=True)
