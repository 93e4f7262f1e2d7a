"""What a worker process runs once its engine is built."""

from typing import NoReturn, Protocol


class MainLoop(Protocol):
    def run(self) -> NoReturn:
        """In the thread that owns the engine; what it raises ends the process."""
