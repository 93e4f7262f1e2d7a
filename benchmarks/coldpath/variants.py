"""What is compared: kinds of cold start, each on a stack of its own."""

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


MAIN = (
    Variant("sequential", mode=StartMode.SEQUENTIAL, num_stages=1, starts_twice=True),
    Variant("s1", num_stages=1),
    Variant("s2", num_stages=2),
    Variant("s4", starts_twice=True),
    Variant("s1_standby", num_stages=1, standby_runtimes=1),
    Variant("s2_standby", num_stages=2, standby_runtimes=1),
    Variant("s4_standby", standby_runtimes=1, starts_twice=True),
    Variant(
        "sequential_100mbit",
        mode=StartMode.SEQUENTIAL,
        num_stages=1,
        nic_bytes_per_s=SLOW_NIC,
    ),
    Variant("s4_100mbit", nic_bytes_per_s=SLOW_NIC),
)

# Random weights of these sizes in four stages, and the demo's model in one to eight stages.
GROWTH_BYTES = {
    "random-0.1gb": 100_000_000,
    "random-0.27gb": 270_000_000,
    "random-0.5gb": 500_000_000,
    "random-1gb": 1_000_000_000,
    "random-2gb": 2_000_000_000,
}
GROWTH_STAGES = tuple(range(1, 9))
GROWTH = (
    # With standbys: what many workers import at once on few cores is no matter of the network.
    *(Variant(f"growth_{model}", model=model, standby_runtimes=1) for model in GROWTH_BYTES),
    *(
        Variant(f"growth_s{count}", num_stages=count, num_nodes=8, standby_runtimes=1)
        for count in GROWTH_STAGES
    ),
)
