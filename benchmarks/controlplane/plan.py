"""What one run of the benchmark does, as told on the command line."""

from dataclasses import dataclass

MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Plan:
    nums_nodes: tuple[int, ...] = (100, 300, 1_000)
    num_models: int = 100_000
    num_large: int = 2_500  # of the models: asked all at once, where nothing has room for them
    cached_units: int = 10_000  # in each node's host cache
    idle_s: float = 60.0
    steady_s: float = 300.0
    steady_per_s: float = 2.8  # cold requests
    burst_s: float = 30.0
    burst_per_s: float = 10.0
    warm_per_s: float = 10.0  # requests to models that serve, all the time
    num_warm: int = 20  # models
    num_takeovers: int = 3
    num_registrations: int = 20
    num_planner_samples: int = 2_000
    seed: int = 17

    @property
    def most_nodes(self) -> int:
        return max(self.nums_nodes)


# Of each hollow node.
DEVICES_PER_NODE = 8
DEVICE_BYTES = 80 * GIB
NIC_BYTES_PER_S = 1_250_000_000  # 10 Gbit/s
HOST_CACHE_BYTES = 2_048 * GIB
CORES_PER_DEVICE = 12
