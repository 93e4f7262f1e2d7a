"""What waits for an engine that is busy, and what does not wait any more."""

import threading

from libs.common.sampling import SamplingParameters
from libs.common.token_ids import TokenIds
from services.worker.frames.frames import CancelGeneration, GenerateTokens
from services.worker.runtime.frame_queue import FrameQueue

SAMPLING = SamplingParameters(max_tokens=4, seed=1, temperature=1.0)


def generate(request_id: str, attempt: int = 1) -> GenerateTokens:
    return GenerateTokens(request_id, attempt, TokenIds((1, 2)), TokenIds(), SAMPLING)


def drained(incoming: FrameQueue) -> list[object]:
    frames: list[object] = []
    while (frame := incoming.get(0)) is not None:
        frames.append(frame)
    return frames


def test_frames_come_in_order_and_an_empty_queue_says_so() -> None:
    incoming = FrameQueue()
    incoming.put(generate("a"))
    incoming.put(generate("b"))

    assert drained(incoming) == [generate("a"), generate("b")]
    assert incoming.get(0.01) is None


def test_a_prompt_whose_client_left_is_dropped_where_it_waits() -> None:
    incoming = FrameQueue()
    for frame in (generate("a"), generate("b"), generate("a", 2), CancelGeneration("a", 1)):
        incoming.put(frame)

    assert drained(incoming) == [generate("b"), generate("a", 2), CancelGeneration("a", 1)]


def test_who_waits_is_woken() -> None:
    incoming = FrameQueue()
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(incoming.get(30.0)))
    waiting.start()

    incoming.put(generate("a"))
    waiting.join(30.0)

    assert found == [generate("a")]
