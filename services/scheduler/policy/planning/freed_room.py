"""Whether the room on devices could suffice once some endpoints are gone, by sums alone. Pure.

Most questions of what could give way end here, for what these endpoints hold and not for the whole
cluster: the planner, which looks closer, is asked only where the sums suffice.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from heapq import nlargest

import numpy as np

from libs.common.engines import BFLOAT16
from services.scheduler.policy.cluster import Endpoint
from services.scheduler.policy.nodes.cluster import Cluster, largest
from services.scheduler.policy.nodes.columns import NOWHERE_BYTES
from services.scheduler.policy.nodes.lazy import cached_property
from services.scheduler.policy.planning.model_shape import ModelShape

MAX_FEW = 64  # places that are looked at one by one


class FreedRoom:
    """The answer is that of `planner.choose_for` to the cluster without these endpoints, as far as
    it depends on the devices' room."""

    def __init__(self, cluster: Cluster, shape: ModelShape) -> None:
        self._cluster, self._shape = cluster, shape
        self._dtype = shape.deployable.summary.dtype
        self._spare = cluster.columns.spare_bytes.ravel()

    def may_suffice(self, leaving: Iterable[Endpoint]) -> bool:
        freed = self._freed(leaving)
        rooms = self._few(freed) if len(freed) <= MAX_FEW else self._many(freed)
        return sum(rooms) >= self._shape.needed_bytes

    def _freed(self, leaving: Iterable[Endpoint]) -> Mapping[int, int]:
        """Bytes by place, where a worker of the model could run."""
        places, freed = self._cluster.layout.place_of, defaultdict[int, int](int)
        for endpoint in leaving:
            for worker in endpoint.leaving_workers:
                place = places.get((worker.node_id, worker.device_index))
                if place is not None and self._is_able(place):
                    freed[place] += worker.device_bytes
        return freed

    def _is_able(self, place: int) -> bool:
        if self._spare[place] == NOWHERE_BYTES:
            return False
        return self._dtype != BFLOAT16 or bool(self._cluster.columns.has_bfloat16.flat[place])

    def _few(self, freed: Mapping[int, int]) -> list[int]:
        """The largest rooms of these places and of the emptiest others."""
        rooms = [max(0, int(self._spare[place]) + bytes_) for place, bytes_ in freed.items()]
        count = self._shape.num_stages
        others = (room for place, room in self._emptiest if place not in freed)
        rooms += [room for room, _ in zip(others, range(count), strict=False)]
        return nlargest(count, rooms)

    def _many(self, freed: Mapping[int, int]) -> list[int]:
        spare = self._cluster.rooms_for(self._dtype)
        places = np.fromiter(freed.keys(), np.int64, len(freed))
        spare[places] = self._spare[places] + np.fromiter(freed.values(), np.int64, len(freed))
        return largest(np.maximum(spare, 0), self._shape.num_stages)

    @cached_property
    def _emptiest(self) -> list[tuple[int, int]]:
        """Places with their rooms, so many that enough of them are none of a few."""
        return self._cluster.emptiest_places(self._dtype, MAX_FEW + self._shape.num_stages)
