"""What the scheduler reads from its environment, once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from libs.common.errors import SettingsError
from libs.common.ids import is_id, new_id
from libs.common.settings import BusSettings, DatabaseSettings, Environment
from libs.common.startmode import StartMode
from libs.common.tenant_shares import TenantShares
from services.scheduler.policy.limits import Limits

DAY_S = 86_400.0


@dataclass(frozen=True)
class Timing(Limits):
    """How patient the scheduler is. Tests shorten these."""

    reconcile_interval_s: float = 1.0  # at the latest, everything is looked at again
    lease_check_s: float = 0.5  # of the leader's lock; also a standby's retry
    leader_silence_s: float = 2.5  # a leader whose checks stop that long is deposed by a standby
    desired_timeout_s: float = 1.0  # one try to tell a node its desired state
    routes_interval_s: float = 5.0
    progress_interval_s: float = 2.0
    import_silence_s: float = 30.0  # of an import that nobody has begun, before it is put again
    import_lost_s: float = 5.0  # of one that a fetcher has begun
    queue_retry_after_s: int = 5
    max_queued_requests: int = 20_000  # of all models together
    tenant_shares: TenantShares = field(default_factory=TenantShares)  # of those
    can_consolidate: bool = True
    retention_s: float = 30 * DAY_S  # of what has ended; 0: for ever
    node_retention_s: float = 7 * DAY_S  # of nodes that are silent; 0: for ever
    retention_interval_s: float = 60.0  # between looks for what has ended long ago

    @classmethod
    def read(cls, env: Environment) -> "Timing":
        """Raises SettingsError."""
        default = cls()
        return cls(
            reconcile_interval_s=env.seconds("RECONCILE_INTERVAL_S", default.reconcile_interval_s),
            lease_check_s=env.seconds("LEASE_CHECK_S", default.lease_check_s),
            leader_silence_s=env.seconds("LEADER_SILENCE_S", default.leader_silence_s),
            acquaintance_s=env.seconds("ACQUAINTANCE_S", default.acquaintance_s),
            node_quiet_s=env.seconds("NODE_QUIET_S", default.node_quiet_s),
            node_stale_s=env.seconds("NODE_STALE_S", default.node_stale_s),
            node_lost_s=env.seconds("NODE_LOST_S", default.node_lost_s),
            gateway_lost_s=env.seconds("GATEWAY_LOST_S", default.gateway_lost_s),
            gateway_replaced_s=env.seconds("GATEWAY_REPLACED_S", default.gateway_replaced_s),
            unlisted_s=env.seconds("UNLISTED_REQUEST_S", default.unlisted_s),
            start_timeout_s=env.seconds("START_TIMEOUT_S", default.start_timeout_s),
            desired_timeout_s=env.seconds("DESIRED_TIMEOUT_S", default.desired_timeout_s),
            suspect_s=env.seconds("SUSPECT_S", default.suspect_s),
            echo_grace_s=env.seconds("ECHO_GRACE_S", default.echo_grace_s),
            routes_interval_s=env.seconds("ROUTES_INTERVAL_S", default.routes_interval_s),
            progress_interval_s=env.seconds("PROGRESS_INTERVAL_S", default.progress_interval_s),
            import_silence_s=env.seconds("IMPORT_SILENCE_S", default.import_silence_s),
            import_lost_s=env.seconds("IMPORT_LOST_S", default.import_lost_s),
            queue_retry_after_s=env.integer(
                "QUEUE_RETRY_AFTER_S", default.queue_retry_after_s, minimum=1
            ),
            max_queued_requests=env.integer(
                "MAX_QUEUED_REQUESTS", default.max_queued_requests, minimum=1
            ),
            tenant_shares=TenantShares.read(env),
            retention_s=env.integer("RETENTION_DAYS", 30) * DAY_S,
            node_retention_s=env.integer("NODE_RETENTION_DAYS", 7) * DAY_S,
            abandon_below_fraction=env.integer("ABANDON_BELOW_PERCENT", 50) / 100,
            store_egress_bytes_per_s=float(env.size_bytes("STORE_EGRESS", "0")),
            can_consolidate=env.is_on("CONSOLIDATION", default.can_consolidate),
            claim_after_s=env.seconds("CLAIM_AFTER_S", default.claim_after_s),
            planning_budget_devices=env.integer(
                "PLANNING_BUDGET_DEVICES", default.planning_budget_devices, minimum=1
            ),
        )


@dataclass(frozen=True)
class SchedulerSettings:
    scheduler_id: str
    health_file: Path | None  # touched each second while this process is in order
    bus: BusSettings
    database: DatabaseSettings
    timing: Timing = field(default_factory=Timing)
    start_mode: StartMode = StartMode.HYDRA
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None  # of GET /metrics; None: nobody asks

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "SchedulerSettings":
        """Raises SettingsError with the key and the value that are wrong."""
        env = Environment(environ)
        scheduler_id = env.optional_text("SCHEDULER_ID") or new_id("scheduler")
        if not is_id(scheduler_id):
            raise SettingsError("HYDRA_SCHEDULER_ID", scheduler_id, "lower-case letters, digits, -")
        health_file = env.optional_text("HEALTH_FILE")
        return cls(
            scheduler_id=scheduler_id,
            health_file=Path(health_file) if health_file else None,
            bus=BusSettings.read(env),
            database=DatabaseSettings.read(env),
            timing=Timing.read(env),
            start_mode=_start_mode(env),
            metrics_host=env.text("SCHEDULER_METRICS_HOST", "127.0.0.1"),
            metrics_port=env.integer("SCHEDULER_METRICS_PORT", 0, maximum=65_535) or None,
        )


def _start_mode(env: Environment) -> StartMode:
    text = env.text("START_MODE", StartMode.HYDRA.value)
    try:
        return StartMode(text)
    except ValueError as exc:
        expected = " or ".join(mode.value for mode in StartMode)
        raise SettingsError(env.prefix + "START_MODE", text, expected) from exc
