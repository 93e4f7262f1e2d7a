"""What planning has cost so far, in devices that were looked at: a measure of work, not of time, so
that the same round decides the same on any machine. Pure but for its memory."""

from dataclasses import dataclass

from services.scheduler.policy.nodes.cluster import Cluster

# What a plan costs at least: of a small cluster it is not its devices that take the time.
LEAST_OF_A_PLAN = 2_000
OF_A_VICTIM = 100  # its nodes as they will be are made for a plan without it


@dataclass
class PlanningCost:
    num_devices: int = 0

    def add_plan(self, cluster: Cluster, num_victims: int = 0) -> None:
        """One plan on the cluster, with so many endpoints taken away from it."""
        self.num_devices += max(cluster.num_devices, LEAST_OF_A_PLAN) + OF_A_VICTIM * num_victims

    def add_endpoints(self, count: int) -> None:
        """So many were looked at."""
        self.num_devices += count
