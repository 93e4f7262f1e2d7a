import pytest
import torch

from services.worker.runtime.dataplane.hostbuffer import HostBuffer

DEVICES = [
    pytest.param(torch.device("cpu"), id="CPU"),
    pytest.param(torch.device("cuda"), id="GPU", marks=pytest.mark.gpu),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_hidden_states_go_to_the_host_and_back_unchanged(
    device: torch.device, dtype: torch.dtype
) -> None:
    sent, received = HostBuffer(device), HostBuffer(device)
    for num_rows in (3, 1, 7, 0):
        hidden = torch.randn(num_rows, 16).to(device, dtype)

        data_host = sent.from_device(hidden)
        taken = received.take(len(data_host))
        taken.copy_(data_host)
        moved = received.to_device(taken.view(dtype).view(-1, 16), device)

        assert data_host.device.type == "cpu"
        assert torch.equal(moved, hidden)


def test_a_buffer_grows_to_the_largest_message_and_stays() -> None:
    buffer = HostBuffer(torch.device("cpu"))
    large = buffer.take(100)
    assert buffer.take(40).data_ptr() == large.data_ptr()
    assert len(buffer.take(200)) == 200
