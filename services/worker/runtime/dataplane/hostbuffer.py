"""Host memory for hidden states between the compute device and the socket."""

import torch


class HostBuffer:
    """Grows to the largest message; page-locked for a GPU, whose copies then take no detour."""

    def __init__(self, device: torch.device) -> None:
        self._is_pinned = device.type == "cuda"
        self._data = torch.empty(0, dtype=torch.uint8)
        self._copied: torch.cuda.Event | None = None  # out of the buffer, onto the device

    def take(self, num_bytes: int) -> torch.Tensor:
        """`[num_bytes]` uint8, free to be overwritten."""
        if self._copied is not None:
            self._copied.synchronize()
        if num_bytes > len(self._data):
            self._data = torch.empty(num_bytes, dtype=torch.uint8, pin_memory=self._is_pinned)
        return self._data[:num_bytes]

    def from_device(self, hidden: torch.Tensor) -> torch.Tensor:
        """The bytes of a tensor, there when this returns, and until the next call."""
        data = hidden.contiguous().view(torch.uint8).flatten()
        if not self._is_pinned:
            return data
        data_host = self.take(len(data))
        data_host.copy_(data, non_blocking=True)
        torch.cuda.current_stream().synchronize()  # not the device: weights may be on their way
        return data_host

    def to_device(self, taken: torch.Tensor, device: torch.device) -> torch.Tensor:
        """A view of what was taken, on the device for whatever is computed after this."""
        moved = taken.to(device, non_blocking=self._is_pinned)
        if self._is_pinned:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]  # of torch
            self._copied.record()
        return moved
