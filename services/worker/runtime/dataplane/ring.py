"""The data plane as the engine's ring: tensors on the device to bytes on the host and back."""

import torch

from services.worker.engine.execution.microbatch import MicroBatch
from services.worker.engine.execution.notices import Notice
from services.worker.engine.execution.ring import Arrival
from services.worker.runtime.dataplane.errors import WireError
from services.worker.runtime.dataplane.hostbuffer import HostBuffer
from services.worker.runtime.dataplane.plane import DataPlane
from services.worker.runtime.dataplane.wire import Hop


class SocketRing:
    """For the engine's thread, `wake` for any. Until the neighbours are there, nothing arrives."""

    def __init__(
        self,
        plane: DataPlane,
        hidden_size: int,
        dtype: torch.dtype,
        device: torch.device,
        *,
        link_timeout_s: float,
    ) -> None:
        """`link_timeout_s`: how long the first `send` waits for the neighbours."""
        self._plane, self._device, self._link_timeout_s = plane, device, link_timeout_s
        self._hidden_size, self._dtype = hidden_size, dtype
        self._row_bytes = hidden_size * dtype.itemsize
        self._sent, self._received = HostBuffer(device), HostBuffer(device)

    def send(self, batch: MicroBatch, hidden: torch.Tensor) -> None:
        """Raises LinkTimedOut, NeighbourLost or SendTimedOut."""
        self._plane.wait_linked(self._link_timeout_s)
        data_host = self._sent.from_device(hidden)
        self._plane.send(batch, data_host.numpy().data, self._row_bytes)

    def tell(self, notice: Notice) -> None:
        """Raises LinkTimedOut, NeighbourLost or SendTimedOut."""
        self._plane.wait_linked(self._link_timeout_s)
        self._plane.tell(notice)

    def receive(self, timeout_s: float) -> Arrival | Notice | None:
        """Raises NeighbourLost, or WireError for rows of another width."""
        hop = self._plane.receive(timeout_s) if self._plane.is_linked else None
        if not isinstance(hop, Hop):
            return hop
        if hop.row_bytes != self._row_bytes:
            raise WireError(f"rows of {hop.row_bytes} bytes, this model's have {self._row_bytes}")
        # A copy: in the message the bytes may begin at any address.
        data_host = self._received.take(hop.hidden.nbytes)
        data_host.numpy().data[:] = hop.hidden
        hidden_host = data_host.view(self._dtype).view(-1, self._hidden_size)
        return Arrival(hop.batch, self._received.to_device(hidden_host, self._device))

    def wake(self) -> None:
        self._plane.wake()
