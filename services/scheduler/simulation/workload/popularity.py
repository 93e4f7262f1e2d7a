"""How often each model is asked for, and how many of them are asked at all. Pure."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def zipf(num_models: int, exponent: float, shift: float = 0.0) -> Floats:
    """The share of requests of the most popular model, the second, and so on; with a shift the law
    of Zipf and Mandelbrot, whose first ones are more alike."""
    weights = (np.arange(1, num_models + 1, dtype=np.float64) + shift) ** -exponent
    found: Floats = weights / weights.sum()
    return found


def expected_distinct(shares: Floats, num_requests: int) -> float:
    """How many models are asked for at least once, where each request's model is drawn."""
    return float(np.sum(-np.expm1(num_requests * np.log1p(-shares[shares < 1])))) + float(
        np.sum(shares >= 1)
    )


def shuffled(shares: Floats, rng: np.random.Generator) -> Floats:
    """By model: which of them is the most popular one is drawn."""
    found = np.empty_like(shares)
    found[rng.permutation(len(shares))] = shares
    return found
