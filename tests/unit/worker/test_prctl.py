"""In processes of their own: nothing here can be taken back."""

import subprocess
import sys


def output_of(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=60, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_process_is_called_what_it_calls_itself() -> None:
    code = (
        "from libs.common.process.prctl import set_process_name\n"
        "set_process_name('hydra-somebody')\n"
        "print(open('/proc/self/comm').read())"
    )
    assert output_of(code) == "hydra-somebody"


def test_an_orphaned_grandchild_becomes_a_child() -> None:
    code = (
        "import os\n"
        "from libs.common.process.prctl import adopt_orphans\n"
        "adopt_orphans()\n"
        "parent = os.fork()\n"
        "if parent == 0:\n"
        "    if os.fork() == 0:\n"
        "        os._exit(5)\n"
        "    os._exit(0)\n"
        "os.waitpid(parent, 0)\n"
        "print(os.waitstatus_to_exitcode(os.wait()[1]))"
    )
    assert output_of(code) == "5"
