"""What is compared: pipelines of `s` stages, `w` of whose workers have room for the whole model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.coldpath.variants import SLOW_NIC

NUM_NODES = 4
NIC_BYTES_PER_S = SLOW_NIC
# With its KV cache the demo's model takes 457 MB of one device. Where a device has room for that,
# the planner makes no pipeline without any such worker: for w = 0 devices are too small.
LARGE_MEMORY, SMALL_MEMORY = "4Gi", "400M"


@dataclass(frozen=True, order=True)
class Cell:
    num_stages: int
    num_full: int

    @property
    def name(self) -> str:
        return f"s{self.num_stages}_w{self.num_full}"

    @property
    def node(self) -> Mapping[str, object]:
        """A node's table. An eighth of its cache is memory made beforehand: enough for the demo's
        model in one stage."""
        memory = LARGE_MEMORY if self.num_full else SMALL_MEMORY
        return {"nic": NIC_BYTES_PER_S, "memory": memory, "host_cache": "2Gi", "cores": 1}

    @property
    def settings(self) -> Mapping[str, object]:
        """Of the model, so that the planner has no other choice."""
        return {
            "min_pipeline_size": self.num_stages,
            "max_pipeline_size": self.num_stages,
            "full_memory_workers": self.num_full or None,
        }


CELLS = tuple(Cell(s, w) for s in range(1, NUM_NODES + 1) for w in range(0 if s > 1 else 1, s + 1))
# Their starts count for nothing: what is measured of nodes and model is known to those that do.
PRACTICE = (Cell(1, 1), Cell(NUM_NODES, 1))


def order_of(run: int, cells: Sequence[Cell]) -> list[Cell]:
    """Kinds take turns, and each run begins with another one."""
    first = run * max(1, len(cells) // 3) % max(1, len(cells))
    return [*cells[first:], *cells[:first]]
