"""What is compared: kinds of cold start."""

from collections.abc import Iterable
from dataclasses import dataclass

from libs.common.startmode import StartMode

MBIT_BYTES_PER_S = 125_000
FAST_NIC, SLOW_NIC = 400 * MBIT_BYTES_PER_S, 100 * MBIT_BYTES_PER_S
DEMO_MODEL = "smollm2-135m-instruct"
VLLM = "vllm"  # measured like the others, but not a variant of this stack


@dataclass(frozen=True)
class Variant:
    """One kind of start. Its name with `_warm_cache` has the samples of the start after it."""

    name: str
    mode: StartMode = StartMode.HYDRA
    num_stages: int = 4
    nic_bytes_per_s: int = FAST_NIC
    standby_runtimes: int = 0  # of each node
    model: str = DEMO_MODEL
    num_nodes: int = 4
    starts_twice: bool = False  # again, with the weights in the host caches

    @property
    def warm_cache_name(self) -> str:
        return f"{self.name}_warm_cache"

    @property
    def sample_names(self) -> tuple[str, ...]:
        return (self.name, self.warm_cache_name) if self.starts_twice else (self.name,)

    def can_follow(self, other: "Variant") -> bool:
        """Whether the stack of the other one is as this one wants it, and knows nothing of this
        one's weights."""
        is_alike = (
            self.mode is other.mode
            and self.nic_bytes_per_s == other.nic_bytes_per_s
            and self.standby_runtimes == other.standby_runtimes
            and self.num_nodes == other.num_nodes
        )
        return is_alike and self.model != other.model


def by_stack(variants: Iterable[Variant]) -> list[list[Variant]]:
    """In their order; those that may run on one stack, one after the other, are together."""
    stacks: list[list[Variant]] = []
    for variant in variants:
        if stacks and all(variant.can_follow(other) for other in stacks[-1]):
            stacks[-1].append(variant)
        else:
            stacks.append([variant])
    return stacks


MAIN = (
    Variant("sequential", mode=StartMode.SEQUENTIAL, num_stages=1, starts_twice=True),
    Variant("s1", num_stages=1, starts_twice=True),
    Variant("s2", num_stages=2, starts_twice=True),
    Variant("s4", starts_twice=True),
    Variant("s1_standby", num_stages=1, standby_runtimes=1, starts_twice=True),
    Variant("s2_standby", num_stages=2, standby_runtimes=1, starts_twice=True),
    Variant("s4_standby", standby_runtimes=1, starts_twice=True),
    Variant(
        "sequential_100mbit",
        mode=StartMode.SEQUENTIAL,
        num_stages=1,
        nic_bytes_per_s=SLOW_NIC,
    ),
    Variant("s4_100mbit", nic_bytes_per_s=SLOW_NIC),
)


@dataclass(frozen=True)
class RandomModel:
    """Weights that no other model has. All have as many layers: only their bytes differ."""

    num_bytes: int
    seed: int = 0


GROWTH_STAGES = tuple(range(1, 9))
_SIZES = {
    "random-0.1gb": RandomModel(100_000_000),
    "random-0.27gb": RandomModel(270_000_000),
    "random-0.5gb": RandomModel(500_000_000),
    "random-1gb": RandomModel(1_000_000_000),
    "random-2gb": RandomModel(2_000_000_000),
}
# One for each number of stages: what a stack has fetched for one is of no use to the next.
_COPIES = {f"random-s{count}": RandomModel(270_000_000, seed=count) for count in GROWTH_STAGES}
RANDOM_MODELS = _SIZES | _COPIES
# With standbys: what many workers import at once on few cores is no matter of the network.
GROWTH_BY_SIZE = tuple(
    Variant(f"growth_{model}", model=model, standby_runtimes=1) for model in _SIZES
)
GROWTH_BY_STAGES = tuple(
    Variant(
        f"growth_s{count}",
        model=f"random-s{count}",
        num_stages=count,
        num_nodes=max(GROWTH_STAGES),
        standby_runtimes=1,
    )
    for count in GROWTH_STAGES
)
GROWTH = (*GROWTH_BY_SIZE, *GROWTH_BY_STAGES)
