"""Thresholds of the policy, all in seconds unless the name says otherwise."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How long the scheduler waits before it concludes something. Tests shorten these."""

    # A new leader hears every node within that: each speaks once a second.
    acquaintance_s: float = 2.5
    node_quiet_s: float = 1.5  # silent that long: it may have failed together with another one
    node_stale_s: float = 5.0  # silent that long: nothing new is planned there
    node_lost_s: float = 10.0  # silent that long: its workers count as dead
    gateway_lost_s: float = 10.0
    gateway_replaced_s: float = 3.0  # the same, while another process of its name speaks
    unlisted_s: float = 30.0  # a request its own gateway no longer lists
    start_timeout_s: float = 120.0  # of a start that does not move any more
    suspect_s: float = 60.0  # a node on which a model failed is avoided for the model so long
    echo_grace_s: float = 1.0  # for the root of a failure to be heard after its echoes
    # A cold start that nobody waits for any more goes on from this fraction of its bytes.
    abandon_below_fraction: float = 0.5
    store_egress_bytes_per_s: float = 0.0  # of the object store; 0: no limit is known
    claim_after_s: float = 30.0  # of waiting; then those behind leave a model's room to it
    # A request for devices that are less shared, while its first token would still be in time.
    longest_wait_for_others_s: float = 10.0
    # Devices that the planning of one round may look at, as `planning_cost.py` counts; models that
    # it did not reach are first in the next. About half a second on a slow core.
    planning_budget_devices: int = 200_000
    # Fetches at once of weights of models that may be asked soon, in the cluster and on a node, and
    # the share of a host cache that they may take.
    max_prefetches: int = 16
    max_prefetches_per_node: int = 1
    prefetch_cache_share: float = 0.5
    # Whether a pipeline becomes one worker once its entry has the whole model.
    can_consolidate: bool = False

    @property
    def longest_gap_s(self) -> float:
        """Of a time in which nobody at all was heard, what counts as somebody's silence."""
        return min(self.node_lost_s, self.gateway_lost_s) / 5
