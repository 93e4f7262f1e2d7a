"""Whatever ends the thread that maps a worker's units is told: nobody waits for it for ever."""

import socket
import threading
import time
from pathlib import Path

import pytest

from libs.common.weights.unitclient import MAX_REQUEST_BYTES, SOCKET_NAME, WantedUnits
from services.worker.errors import WeightsUnavailable
from services.worker.runtime.start_steps import StartSteps
from services.worker.runtime.unit_mapper import UnitMapper


def answer_once(listener: socket.socket, packet: bytes) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.recv(MAX_REQUEST_BYTES)
        connection.sendall(packet)


@pytest.mark.parametrize(
    ("packet", "error"),
    [
        (b"no JSON", "JSONDecodeError"),
        (b"[]", "AttributeError"),
        (b'{"kind": "manifest"}', "ValueError"),
        (b'{"kind": "refused"}', "KeyError"),
    ],
    ids=["no JSON", "no object", "no descriptor", "no code"],
)
def test_an_answer_that_makes_no_sense_ends_the_wait_for_weights(
    tmp_path: Path, packet: bytes, error: str
) -> None:
    failures: list[WeightsUnavailable] = []
    failed = threading.Event()

    def fail(failure: WeightsUnavailable) -> None:
        failures.append(failure)
        failed.set()

    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / SOCKET_NAME))
        listener.listen()
        threading.Thread(target=answer_once, args=(listener, packet), daemon=True).start()
        mapper = UnitMapper(
            tmp_path / SOCKET_NAME,
            WantedUnits("0" * 64, ("1" * 64,)),
            deadline_s=time.monotonic() + 30,
            steps=StartSteps(lambda _: None),
            failed=fail,
        )
        mapper.start()

        with pytest.raises(WeightsUnavailable, match=f"mapping the weights failed: {error}"):
            mapper.manifest()

    assert failed.wait(5)
    assert [str(failure).split(":")[1].strip() for failure in failures] == [error]
