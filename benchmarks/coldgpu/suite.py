"""The kinds of start that are compared, on nodes that share one device, and the figures of them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.coldgpu.checkpoint import Shape
from benchmarks.coldpath.samples import Samples
from benchmarks.coldpath.variants import Variant
from libs.common.startmode import StartMode

NUM_SHARES = 4  # of the device and of the cores: the most nodes that there are
GBIT_BYTES_PER_S = 125_000_000
_OTHER_DEVICE_BYTES = 2**29  # for each node, in nobody's plan


@dataclass(frozen=True)
class Suite:
    shape: Shape
    nic_bytes_per_s: int  # of each node
    device_bytes: int  # of the whole device
    gpu: int | None  # the processor for None

    @property
    def variants(self) -> tuple[Variant, ...]:
        """As many nodes as stages: idle ones add nothing but shared memory for their caches."""
        return (
            self._variant("sequential", 1, mode=StartMode.SEQUENTIAL),
            self._variant("s1", 1),
            self._variant("s2", 2),
            self._variant("s4", 4),
            self._variant("s4_standby", 4, standby_runtimes=1),
        )

    def node(self, variant: Variant) -> Mapping[str, object]:
        """A node's table."""
        stage_bytes = self.shape.weight_bytes // variant.num_stages
        common = {
            "nic": self.nic_bytes_per_s,
            "memory": self.device_bytes // NUM_SHARES - _OTHER_DEVICE_BYTES,
            "host_cache": stage_bytes * 5 // 4 + 64 * 2**20,
            "cores": max(1, len(os.sched_getaffinity(0)) // NUM_SHARES),
        }
        return common if self.gpu is None else {**common, "gpu": self.gpu}

    def _variant(
        self,
        name: str,
        num_stages: int,
        *,
        mode: StartMode = StartMode.HYDRA,
        standby_runtimes: int = 0,
    ) -> Variant:
        return Variant(
            name,
            mode=mode,
            num_stages=num_stages,
            nic_bytes_per_s=self.nic_bytes_per_s,
            standby_runtimes=standby_runtimes,
            model=self.shape.name,
            num_nodes=num_stages,
        )

    def summary(self, samples: Samples) -> dict[str, float | None]:
        """Medians in seconds, and ratios of them; None: not measured."""
        seconds = {f"ttft_{v.name}_s": samples.median_ttft_s(v.name) for v in self.variants}
        bound_s = self.shape.weight_bytes / (4 * self.nic_bytes_per_s)
        sequential_s, s4_s = seconds["ttft_sequential_s"], seconds["ttft_s4_s"]
        standby_s = seconds["ttft_s4_standby_s"]
        return {
            **seconds,
            "bound_s4_s": bound_s,
            "s4_standby_to_bound": _ratio(standby_s, bound_s),
            "sequential_to_s4": _ratio(sequential_s, s4_s),
            "sequential_to_s4_standby": _ratio(sequential_s, standby_s),
        }


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below
