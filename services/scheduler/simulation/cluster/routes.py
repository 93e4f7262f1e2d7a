"""Which endpoints gateways know of each model: a request goes to the emptiest that has a free slot,
past the scheduler."""

from dataclasses import dataclass, field
from math import inf

from services.scheduler.simulation.cluster.modelled_endpoint import ModelledEndpoint


@dataclass(eq=False)
class Routes:
    _by_model: dict[str, list[ModelledEndpoint]] = field(default_factory=dict)

    def add(self, endpoint: ModelledEndpoint) -> None:
        endpoint.is_routed = True
        self._by_model.setdefault(endpoint.model_id, []).append(endpoint)

    def remove(self, endpoint: ModelledEndpoint) -> None:
        if not endpoint.is_routed:
            return
        endpoint.is_routed = False
        known = self._by_model[endpoint.model_id]
        known.remove(endpoint)
        if not known:
            del self._by_model[endpoint.model_id]

    def has_any(self, model_id: str) -> bool:
        return model_id in self._by_model

    def emptiest(self, model_id: str) -> ModelledEndpoint | None:
        """Of equal ones that which came first."""
        found, least = None, inf
        for endpoint in self._by_model.get(model_id, ()):
            num_requests = endpoint.engine.num_requests
            if num_requests < least and num_requests < endpoint.max_slots:
                found, least = endpoint, num_requests
                if not num_requests:
                    break
        return found
