"""How a scheduler plans starts, and how the parts of each follow each other."""

from enum import StrEnum


class StartMode(StrEnum):
    """Of every start that a scheduler plans; those that run already go on as they began.

    All but the first are there to measure against.
    """

    HYDRA = "hydra"  # as many workers as targets need; each fetches, launches and loads at once
    SINGLE = "single"  # the same with one worker
    # One worker, where most of the model is in the host cache; from there it loads while its
    # process launches. What is not there is fetched first. As systems do that keep checkpoints in
    # memory.
    CACHED = "cached"
    # One worker: fetch everything, then launch its process, then load. As systems do that know
    # nothing better.
    SEQUENTIAL = "sequential"

    @property
    def max_stages(self) -> int | None:
        """None: as many as the model allows."""
        return None if self is StartMode.HYDRA else 1

    @property
    def has_admission(self) -> bool:
        """Whether a start keeps away from networks where it would make others late."""
        return self in (StartMode.HYDRA, StartMode.SINGLE)

    @property
    def prefers_cached_copies(self) -> bool:
        """Whether a start goes where most of the model is, whatever else would be sooner."""
        return self is StartMode.CACHED

    def is_launched_at_once(self, *, is_cached: bool) -> bool:
        """Or only when its weights are there. `is_cached`: they are there already."""
        if self is StartMode.CACHED:
            return is_cached
        return self is not StartMode.SEQUENTIAL
