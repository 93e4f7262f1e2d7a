"""A worker process's connections to its neighbours, and what the agent is told of them."""

from collections.abc import Callable
from pathlib import Path

from libs.common.network.nic_rate_limiter import NicRateLimiter
from services.worker.frames.frames import ConnectPeers, Registered, StartWorker
from services.worker.runtime.channel import Channel
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.watch import Neighbours
from services.worker.runtime.failure_causes import cause_of
from services.worker.runtime.start_steps import StartSteps

# How far activations may go into debt before they wait: they are small and somebody waits for each
# token, so they pass the fetches, which then pay.
NIC_CREDIT_S = 0.02


class NicSendLimiter:
    """Holds messages back so that the node stays within its rate, fetches included."""

    def __init__(
        self,
        path: Path,
        waits: Callable[[], None] = lambda: None,
        *,
        credit_s: float = NIC_CREDIT_S,
    ) -> None:
        """`waits` is called before each wait: whose turn has not come does not hang."""
        self._path, self._waits, self._credit_s = path, waits, credit_s
        self._limiter: NicRateLimiter | None = None

    def __call__(self, num_bytes: int) -> None:
        """Raises NicRateLimiterError."""
        if self._limiter is None:  # made by the fetcher, which was there if there are weights
            self._limiter = NicRateLimiter.attach(self._path)
        self._limiter.acquire(num_bytes, credit_s=self._credit_s, waits=self._waits)


class NeighbourConnections:
    """Bound when it is made; `connect` may be called by any thread."""

    def __init__(self, start: StartWorker, channel: Channel, steps: StartSteps) -> None:
        """Raises BindError."""
        options = start.data_plane
        self._steps = steps
        self._timeout_s = start.start_timeout_ms / 1000
        self._waits_since_s: float | None = None
        self._linking_since_s = 0.0
        self.plane = DataPlane(
            stage=start.stage_index,
            host=options.host,
            security=options.security,
            linked=self._note_linked,
            failed=lambda error: channel.fail(cause_of(error)),
            before_send=_limit(options.nic_ledger, NIC_CREDIT_S, channel.progress.note),
        )

    @property
    def registered(self) -> Registered:
        return Registered(self.plane.address, self.plane.keys.public)

    def expect_neighbours(self) -> None:
        """The step `connect` lasts until the agent names them, `linked` until they are there."""
        self._waits_since_s = self._steps.begin("connect")

    def connect(self, frame: ConnectPeers) -> None:
        """Raises DataPlaneError when the neighbours change."""
        if self._waits_since_s is not None:
            self._steps.ended("connect", self._waits_since_s)
            self._waits_since_s = None
            self._linking_since_s = self._steps.begin("linked")
        self.plane.connect(Neighbours(frame.previous, frame.next))

    def wait(self) -> None:
        """Until both are there. Raises LinkTimedOut or NeighbourLost."""
        self.plane.wait_linked(self._timeout_s)

    def _note_linked(self) -> None:
        self._steps.ended("linked", self._linking_since_s)


def kv_limit(nic_ledger: str | None) -> Callable[[int], None]:
    """For keys and values, in a thread of their own: behind activations, level with fetches."""
    return _limit(nic_ledger, 0.0, lambda: None)


def _limit(
    nic_ledger: str | None, credit_s: float, waits: Callable[[], None]
) -> Callable[[int], None]:
    """`nic_ledger`: None where no limit is set."""
    if nic_ledger is None:
        return _no_cap
    return NicSendLimiter(Path(nic_ledger), waits, credit_s=credit_s)


def _no_cap(num_bytes: int) -> None:
    """No limit is set."""
