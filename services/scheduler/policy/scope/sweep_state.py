"""What is kept from a sweep for those after it, so that they need not look at everything. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import floor

from services.scheduler.policy.tables.table import Schema, Table


@dataclass(frozen=True)
class Look:
    """When an endpoint is looked at although nothing was heard of it."""

    endpoint_id: str
    at_s: float


_LOOKS = Schema[Look]({"second": lambda look: (str(floor(look.at_s)),)})


@dataclass(frozen=True)
class SweepState:
    """As of the last round. Models are those since the last sweep, with that one."""

    swept_at_s: float
    looks: Table[Look] = field(default_factory=lambda: Table(_LOOKS))  # by endpoint that serves
    silent_nodes: frozenset[str] = frozenset()  # of the last sweep
    skipped_models: frozenset[str] = frozenset()  # about which a round could not decide
    decided_models: frozenset[str] = frozenset()  # about which anything was decided

    def due(self, now_s: float) -> Iterator[str]:
        """Endpoints whose time has come."""
        for second in self.looks.keys_of("second"):
            if int(second) <= now_s:
                looks = self.looks.by("second", second)
                yield from (look.endpoint_id for look in looks if look.at_s <= now_s)

    def with_looks(self, looks: Mapping[str, float | None]) -> Table[Look]:
        """None: it is looked at by each sweep, or is gone."""
        return self.looks.updated(
            {id_: None if at_s is None else Look(id_, at_s) for id_, at_s in looks.items()}
        )
