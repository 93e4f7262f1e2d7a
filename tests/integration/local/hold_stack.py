"""Holds a stack of stand-ins in the folder it is given, until somebody kills it."""

import asyncio
import sys
from pathlib import Path

from deploy.local.stack import LocalStack
from tests.integration.local.test_stack import options


async def main(folder: Path) -> None:
    async with LocalStack(options(folder)) as stack:
        unfinished = folder / "is-up.unfinished"
        unfinished.write_text(" ".join(str(stack.pid(name)) for name in stack.processes))
        unfinished.rename(folder / "is-up")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
