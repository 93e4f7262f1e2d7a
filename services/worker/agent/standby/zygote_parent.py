"""The agent's side of the zygote."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping

from services.worker.agent.processes.worker_process import has_ended
from services.worker.errors import StandbySilent
from services.worker.frames.standby import socket_pair

MODULE = "services.worker.runtime.standby"
_ASK = b"f"


class Zygote:
    """Starts it. Raises OSError. Use it from the main thread only, as ProcessLauncher says why."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._control, theirs = socket_pair()
        self._control.setblocking(False)
        descriptor = theirs.fileno()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", MODULE, str(descriptor), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                pass_fds=(descriptor,),
                start_new_session=True,
            )
        except OSError:
            self._control.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def fork(self) -> socket.socket:
        """Ask for a standby: our end of its socket, closed by the other side if there is none.

        Raises StandbySilent, OSError.
        """
        ours, theirs = socket_pair()
        ours.setblocking(False)
        try:
            socket.send_fds(self._control, [_ASK], [theirs.fileno()])
        except OSError as exc:
            ours.close()
            raise StandbySilent(f"the zygote cannot be asked: {exc}") from exc
        finally:
            theirs.close()
        return ours

    async def end(self) -> None:
        """At once, and reap it. What it forked stays."""
        self._control.close()
        if self.is_running:
            os.killpg(self.pid, signal.SIGKILL)
            await has_ended(self.pid)
            self._process.wait()
