"""What nodes and gateways have said, as rounds see it. Nobody is ever silent here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from libs.common.bus.messages import AgentHeartbeat, FetcherHeartbeat, GatewayHeartbeat
from services.scheduler.policy.cluster import OpenRequest
from services.scheduler.policy.liveness import Liveness
from services.scheduler.policy.observed import Heard, Observed
from services.scheduler.policy.tables.table import Table
from services.scheduler.simulation.cluster.modelled_endpoint import REFERENCE_S

GATEWAY = "gateway"
_ELAPSED_S = 1_000.0  # for which all have been heard: longer than any limit


class _HeardNow(Mapping[str, float]):
    """Everybody's last message is as old as the newest one."""

    def __getitem__(self, speaker: str) -> float:
        return _ELAPSED_S

    def __iter__(self) -> Iterator[str]:
        return iter((GATEWAY,))

    def __len__(self) -> int:
        return 1


_EVERYBODY = Liveness(_ELAPSED_S, _HeardNow())


@dataclass(eq=False)
class HeardNodes:
    agents: dict[str, Heard[AgentHeartbeat]]
    fetchers: dict[str, Heard[FetcherHeartbeat]]
    _observed: Observed | None = None
    _is_new: bool = True
    _listed: Table[OpenRequest] | None = None  # when the gateway's list was made
    _gateway: GatewayHeartbeat = field(
        default_factory=lambda: GatewayHeartbeat(gateway_id=GATEWAY, request_ids=())
    )

    @classmethod
    def of(
        cls, agents: Mapping[str, AgentHeartbeat], fetchers: Mapping[str, FetcherHeartbeat]
    ) -> "HeardNodes":
        return cls(
            {id_: Heard(beat, REFERENCE_S) for id_, beat in agents.items()},
            {id_: Heard(beat, REFERENCE_S) for id_, beat in fetchers.items()},
        )

    def agent(self, node_id: str) -> AgentHeartbeat:
        return self.agents[node_id].heartbeat

    def fetcher(self, node_id: str) -> FetcherHeartbeat:
        return self.fetchers[node_id].heartbeat

    def hear_agent(self, node_id: str, heartbeat: AgentHeartbeat) -> None:
        self.agents[node_id] = Heard(heartbeat, REFERENCE_S)
        self._is_new = True

    def hear_fetcher(self, node_id: str, heartbeat: FetcherHeartbeat) -> None:
        self.fetchers[node_id] = Heard(heartbeat, REFERENCE_S)
        self._is_new = True

    def observed(self, requests: Table[OpenRequest], *, is_sweep: bool) -> Observed:
        """Who lists which requests matters to sweeps alone."""
        if is_sweep and requests is not self._listed:
            self._listed, self._is_new = requests, True
            self._gateway = self._gateway.model_copy(update={"request_ids": tuple(requests.rows)})
        if self._observed is None or self._is_new:
            gateways = {GATEWAY: self._gateway}
            self._observed = Observed(_EVERYBODY, dict(self.agents), dict(self.fetchers), gateways)
            self._is_new = False
        return self._observed
