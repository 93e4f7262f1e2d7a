"""How often a model is asked, and how long its requests take. Pure."""

from dataclasses import dataclass, field

from services.scheduler.policy.prediction.measurements import Measurements
from services.scheduler.policy.scaling.arrivals import ArrivalWindow
from services.scheduler.policy.scaling.autoscaler import Load


@dataclass(frozen=True)
class Traffic:
    arrivals: ArrivalWindow = field(default_factory=ArrivalWindow)
    services: Measurements = field(default_factory=Measurements)  # seconds

    def load(self, num_waiting: int, num_running: int, now_s: float) -> Load:
        """Nothing is expected before a request was seen from its arrival to its end."""
        service_s = self.services.median(prior=0.0)
        return Load(num_waiting, num_running, self.arrivals.rate_per_s(now_s), service_s)
