"""How long prompts and answers are. Pure but for the random generator."""

import numpy as np

from services.scheduler.simulation.scenario.models import Lengths
from services.scheduler.simulation.workload.popularity import Ints


def draw(rng: np.random.Generator, lengths: Lengths, count: int) -> Ints:
    """Lognormal, capped, at least one token."""
    values = lengths.median_tokens * np.exp(lengths.sigma * rng.standard_normal(count))
    found: Ints = np.clip(np.rint(values), 1, lengths.max_tokens).astype(np.int64)
    return found
