"""How the parts of a cold start follow each other."""

from enum import StrEnum


class StartMode(StrEnum):
    """Of every start that a scheduler plans; those that run already go on as they began."""

    HYDRA = "hydra"  # several stages; each fetches, starts its process and loads at the same time
    # One worker: fetch everything, then start its process, then load. What serving systems do that
    # know nothing better; kept to measure against.
    SEQUENTIAL = "sequential"

    @property
    def max_stages(self) -> int | None:
        """None: as many as the model allows."""
        return 1 if self is StartMode.SEQUENTIAL else None

    @property
    def is_launched_at_once(self) -> bool:
        """Or only when its weights are there."""
        return self is StartMode.HYDRA
