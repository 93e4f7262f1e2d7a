"""What was published of the end-to-end evaluation: TTFT targets met, by cell, and cost and TPOT of
the published system by those of its baseline (figures 9 and 13)."""

from collections.abc import Mapping
from types import MappingProxyType

RATES, CVS = (0.6, 0.7, 0.8), (2, 4, 8)

# By the policy here that stands for the published system; by CV, then in the order of the rates.
ATTAINMENT: Mapping[str, Mapping[int, tuple[float, ...]]] = MappingProxyType(
    {
        "sequential": {
            2: (0.467, 0.457, 0.439),
            4: (0.499, 0.486, 0.447),
            8: (0.535, 0.533, 0.485),
        },
        "cached": {2: (0.575, 0.498, 0.453), 4: (0.615, 0.577, 0.477), 8: (0.603, 0.577, 0.540)},
        "hydra": {2: (0.811, 0.772, 0.738), 4: (0.842, 0.782, 0.718), 8: (0.825, 0.763, 0.752)},
        "hydra_cache": {
            2: (0.837, 0.791, 0.783),
            4: (0.882, 0.838, 0.793),
            8: (0.882, 0.85, 0.785),
        },
    }
)
SYSTEMS: Mapping[str, str] = MappingProxyType(
    {
        "sequential": "serverless vLLM",
        "cached": "ServerlessLLM",
        "hydra": "HydraServe",
        "hydra_cache": "HydraServe with cache",
    }
)
COST_RATIO, TPOT_RATIO = 0.823, 1.078  # CV 8, 0.6 requests/s; means over 101 models


def attainment(policy: str, cv: int, rate_per_s: float) -> float | None:
    """None: it was not published."""
    of_policy = ATTAINMENT.get(policy)
    return None if of_policy is None else of_policy[cv][RATES.index(rate_per_s)]
