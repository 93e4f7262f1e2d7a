"""What planning has cost so far, in devices that were looked at: a measure of work, not of time, so
that the same round decides the same on any machine. Pure but for its memory."""

from dataclasses import dataclass

from services.scheduler.policy.nodes.cluster import Cluster
from services.scheduler.policy.planning.planner import Choice

# What a plan costs at least: of a small cluster it is not its devices that take the time.
LEAST_OF_A_PLAN = 1_700
OF_A_MODEL = 300  # that is looked at, also where sums alone say that there is no room for it
OF_A_CUT = 100  # of layers into stages
OF_A_VICTIM = 100  # its nodes as they will be are made for a plan without it


@dataclass
class PlanningCost:
    num_devices: int = 0

    def add_plan(self, cluster: Cluster, num_victims: int = 0, num_plans: int = 1) -> None:
        """A plan on the cluster, with so many endpoints taken away from it."""
        each = max(cluster.num_devices, LEAST_OF_A_PLAN)
        self.num_devices += each * num_plans + OF_A_VICTIM * num_victims

    def add_model(self) -> None:
        self.num_devices += OF_A_MODEL

    def add_choice(self, cluster: Cluster, choice: Choice) -> None:
        if choice.is_surveyed:
            self.add_plan(cluster)
            self.num_devices += OF_A_CUT * choice.num_cuts

    def add_endpoints(self, count: int) -> None:
        """So many were looked at."""
        self.num_devices += count
