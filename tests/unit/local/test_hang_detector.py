"""When a process counts as hung."""

import asyncio

import pytest

from deploy.local.processes.hang_detector import HangDetector


class Script:
    """`+` for each look that finds a sign of life, `-` for one that does not."""

    def __init__(self, signs: str) -> None:
        self._left = list(signs)
        self.is_over = asyncio.Event()

    async def sign_of_life(self) -> bool:
        if not self._left:
            self.is_over.set()
            await asyncio.Event().wait()
        return self._left.pop(0) == "+"


async def is_hung(signs: str) -> bool:
    """By the end of the script."""
    script = Script(signs)
    detector = HangDetector(script.sign_of_life, period_s=0, max_misses=3)
    hung = asyncio.create_task(detector.until_hung())
    over = asyncio.create_task(script.is_over.wait())
    done, left = await asyncio.wait({hung, over}, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    for task in left:
        task.cancel()
    return hung in done


@pytest.mark.parametrize(
    ("signs", "hangs", "reason"),
    [
        ("+---", True, "three misses in a row"),
        ("--+---", True, "it had started by then"),
        ("+--+", False, "a late sign of life is one"),
        ("+--+--+", False, "misses do not add up"),
        ("-----", False, "it is still starting"),
    ],
)
async def test_a_process_hangs_after_so_many_misses_in_a_row(
    signs: str, hangs: bool, reason: str
) -> None:
    assert await is_hung(signs) is hangs, reason
