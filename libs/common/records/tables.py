"""What Postgres holds. The scheduler writes all of it; the gateway writes models as registered, the
rows of its own requests, API keys and usage (its grants stand in the first migration).

Times are `timestamptz` set by the database's own clock; digests are hexadecimal BLAKE3, as bytes
where there are millions; states are the texts of `states.py`.
"""

from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Numeric,
    func,
    literal_column,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
_THIS_TRANSACTION = text("pg_current_xact_id()::text::bigint")


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=_CONVENTION)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger,
        Decimal: Numeric,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSONB,
        list[dict[str, Any]]: JSONB,
        list[str]: JSONB,
    }


class LeadershipRow(Base):
    """One row. Its epoch grows whenever a scheduler becomes leader, to the milliseconds since 1970
    at least, so that a restored database takes none anew; every scheduler transaction reads it
    FOR SHARE and ends if it is not its own (fencing)."""

    __tablename__ = "leadership"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False, default=1)
    epoch: Mapped[int] = mapped_column(default=0)
    scheduler_id: Mapped[str | None]
    taken_at: Mapped[datetime | None]


class ModelRow(Base):
    __tablename__ = "models"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    source: Mapped[str]
    state: Mapped[str]  # ModelState
    cause: Mapped[str | None]  # with FAILED, and why a model is imported again
    is_public: Mapped[bool] = mapped_column(server_default=text("false"))
    slo_ttft_ms: Mapped[int]
    slo_tpot_ms: Mapped[int]
    keep_alive_s: Mapped[float]
    # Its own gaps between requests decide, instead of that figure.
    is_keep_alive_auto: Mapped[bool] = mapped_column(server_default=text("false"))
    min_pipeline_size: Mapped[int] = mapped_column(server_default=text("1"))
    max_pipeline_size: Mapped[int]
    full_memory_workers: Mapped[int | None]  # of a pipeline; None: the planner decides
    max_queue: Mapped[int]  # waiting requests; one more is refused with 429
    max_slots: Mapped[int]  # requests at once on one endpoint
    max_endpoints: Mapped[int]
    min_endpoints: Mapped[int] = mapped_column(server_default=text("0"))  # whoever asks
    max_context_tokens: Mapped[int | None]  # None: what the checkpoint allows
    kv_cache_bytes: Mapped[int | None]  # None: derived, see the scheduler's memory module
    engine: Mapped[str] = mapped_column(server_default=text("'auto'"))  # EngineChoice
    # None: what the checkpoint has. By its digest gateways see whether they know the text.
    chat_template: Mapped[str | None] = mapped_column(deferred=True)
    chat_template_digest: Mapped[str | None]
    import_id: Mapped[str | None]
    import_bytes_done: Mapped[int] = mapped_column(server_default=text("0"))
    import_bytes_total: Mapped[int] = mapped_column(server_default=text("0"))
    import_heard_at: Mapped[datetime | None]
    manifest_digest: Mapped[str | None] = mapped_column(ForeignKey("manifests.digest"))
    num_failed_starts: Mapped[int] = mapped_column(server_default=text("0"))
    backoff_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())
    # The transaction that wrote it last; a trigger sets it, but for the progress of an import.
    changed_xid: Mapped[int] = mapped_column(server_default=_THIS_TRANSACTION)

    __table_args__ = (
        Index(
            "uq_models_tenant_name",
            "tenant",
            "name",
            unique=True,
            postgresql_where=text("state <> 'DELETING'"),
        ),
        Index(
            "ix_models_importing", "import_heard_at", postgresql_where=text("state = 'IMPORTING'")
        ),
        Index("ix_models_pinned", "id", postgresql_where=text("min_endpoints > 0")),
        Index("ix_models_deleting", "updated_at", postgresql_where=text("state = 'DELETING'")),
        Index("ix_models_manifest_digest", "manifest_digest"),
        Index("ix_models_tenant_name", "tenant", "name"),  # of deleted ones, too
        Index("ix_models_changed_xid_id", "changed_xid", "id"),
        Index(
            "ix_models_askable",
            "tenant",
            "name",
            postgresql_where=text(
                "state IN ('READY', 'IMPORTING') AND manifest_digest IS NOT NULL"
            ),
        ),
    )


class ModelCommandRow(Base):
    """What an operator asks for once. The row goes when it is done, or can no longer be."""

    __tablename__ = "model_commands"
    id: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    kind: Mapped[str]  # ModelCommandKind
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deadline_at: Mapped[datetime]

    # A later one of the same kind takes the place of an earlier one.
    __table_args__ = (Index("uq_model_commands_model_id_kind", "model_id", "kind", unique=True),)


class ModelActivityRow(Base):
    """When a model was asked, as the scheduler remembers it."""

    __tablename__ = "model_activity"
    model_id: Mapped[str] = mapped_column(
        ForeignKey("models.id", ondelete="CASCADE"), primary_key=True
    )
    gaps: Mapped[bytes]  # of its GapHistory: numbers of four bytes
    idle_since: Mapped[datetime | None]  # nobody has asked since then; None: it works
    restart_s: Mapped[float | None]  # as predicted when it started last
    late_s: Mapped[float | None]  # by which its first token was to be after its target then
    busy_s: Mapped[float | None]  # for how long it works until it has nothing to do
    was_started_ahead: Mapped[bool] = mapped_column(server_default=text("false"))
    ahead_at: Mapped[datetime | None]  # when one is started although nobody asks
    ahead_until: Mapped[datetime | None]  # and until when
    prefetch_at: Mapped[datetime | None]  # when its weights may be fetched into host caches
    prefetch_until: Mapped[datetime | None]  # and until when

    __table_args__ = (
        Index(
            "ix_model_activity_ahead_at", "ahead_at", postgresql_where=text("ahead_at IS NOT NULL")
        ),
        Index(
            "ix_model_activity_prefetch_at",
            "prefetch_at",
            postgresql_where=text("prefetch_at IS NOT NULL"),
        ),
    )


class ManifestRow(Base):
    __tablename__ = "manifests"
    digest: Mapped[str] = mapped_column(primary_key=True)
    summary: Mapped[dict[str, Any]]  # messages.ModelSummary
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index(
            "ix_manifests_objects",  # by the digests of its units and tokenizer files
            literal_column(
                "(jsonb_path_query_array(summary, '$.units[*].digest')"
                " || jsonb_path_query_array(summary, '$.tokenizer_files.*[0]'))"
            ).label("digests"),
            postgresql_using="gin",
            postgresql_ops={"digests": "jsonb_path_ops"},
            postgresql_with={"fastupdate": "off"},  # rows are few, and found by it at once
        ),
    )


class DamagedObjectRow(Base):
    """An object of the store whose bytes are not those that its name, a digest, says. The row goes
    when an import or a verification has found it whole."""

    __tablename__ = "damaged_objects"
    key: Mapped[str] = mapped_column(primary_key=True)
    found_by: Mapped[str]  # a node, or the operator's verification
    detail: Mapped[str | None]
    found_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # Whether the models that need it have been put to be imported again.
    is_handled: Mapped[bool] = mapped_column(server_default=text("false"))
    is_whole: Mapped[bool] = mapped_column(server_default=text("false"))  # verified since then


class NodeRow(Base):
    __tablename__ = "nodes"
    id: Mapped[str] = mapped_column(primary_key=True)
    desired_version: Mapped[int] = mapped_column(server_default=text("0"))
    agent_boot_id: Mapped[str | None]
    agent_accepted_version: Mapped[int] = mapped_column(server_default=text("0"))
    agent_heard_at: Mapped[datetime | None]
    num_standbys: Mapped[int] = mapped_column(server_default=text("0"))  # ready ones
    fetcher_boot_id: Mapped[str | None]
    fetcher_accepted_version: Mapped[int] = mapped_column(server_default=text("0"))
    fetcher_heard_at: Mapped[datetime | None]
    nic_bytes_per_s: Mapped[int] = mapped_column(server_default=text("0"))
    measured_bytes_per_s: Mapped[float | None]
    cache_capacity_bytes: Mapped[int] = mapped_column(server_default=text("0"))  # now
    cache_max_bytes: Mapped[int | None]  # once others have left its file system; None: not said
    cache_used_bytes: Mapped[int] = mapped_column(server_default=text("0"))
    # Of its rows in `host_cache`, as a UnitSetDigest; equal to its fetcher's, so are the sets.
    cached_units_digest: Mapped[bytes] = mapped_column(
        server_default=text("decode(repeat('00', 16), 'hex')")
    )
    num_cached_units: Mapped[int] = mapped_column(server_default=text("0"))
    # What is wrong with its heartbeats; None once they are valid again.
    agent_invalid: Mapped[str | None]
    fetcher_invalid: Mapped[str | None]


class GpuRow(Base):
    __tablename__ = "gpus"
    node_id: Mapped[str] = mapped_column(
        ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[str]
    memory_bytes: Mapped[int]
    cores: Mapped[int]
    has_bfloat16: Mapped[bool] = mapped_column(server_default=text("true"))


class NodeEngineRow(Base):
    """What an engine takes on a node, as its agent has measured it; NULL: not measured yet."""

    __tablename__ = "node_engines"
    node_id: Mapped[str] = mapped_column(
        ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True
    )
    engine: Mapped[str] = mapped_column(primary_key=True)  # EngineKind
    launch_s: Mapped[float | None]  # from a process's launch until it has imported it
    worker_bytes: Mapped[int | None]  # of a device, beside weights and KV cache


class MeasurementRow(Base):
    """The newest values of one quantity, of a node, of a model, or, without both, of the cluster.

    Of an id that is none the column is empty: there is no foreign key, and whoever deletes a node
    or a model deletes these. Models are the outer part of the key, so that all rows without one,
    which a new leader reads, lie together.
    """

    __tablename__ = "measurements"
    model_id: Mapped[str] = mapped_column(primary_key=True, server_default=text("''"))
    node_id: Mapped[str] = mapped_column(primary_key=True, server_default=text("''"))
    quantity: Mapped[str] = mapped_column(primary_key=True)  # Quantity
    values: Mapped[list[float]] = mapped_column(ARRAY(Double))  # oldest first, 24 at most
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class EndpointRow(Base):
    __tablename__ = "endpoints"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("endpoints.id"))
    epoch: Mapped[int]
    generation: Mapped[int] = mapped_column(server_default=text("1"))  # of its members that serve
    state: Mapped[str]  # EndpointState
    purpose: Mapped[str] = mapped_column(server_default=text("'request'"))  # StartPurpose
    cause: Mapped[str | None]  # in words, for people
    cause_kind: Mapped[str | None]  # CauseKind
    cause_facts: Mapped[dict[str, Any] | None]
    guilty_worker_id: Mapped[str | None]  # whom its failure began with, where somebody can say
    max_slots: Mapped[int]
    num_stages: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ready_at: Mapped[datetime | None]
    idle_since: Mapped[datetime | None]  # keep-alive counts from here; None while busy
    # Before `idle_since`; less what lies between that and `busy_at`, which is counted already.
    idle_s: Mapped[Decimal] = mapped_column(server_default=text("0"))
    busy_at: Mapped[datetime | None]  # when its idle time ended last
    # Device memory x time of its workers, as far as it is counted: see memory_pieces.py.
    starting_byte_s: Mapped[Decimal] = mapped_column(server_default=text("0"))
    busy_byte_s: Mapped[Decimal] = mapped_column(server_default=text("0"))
    idle_byte_s: Mapped[Decimal] = mapped_column(server_default=text("0"))
    ended_at: Mapped[datetime | None]
    consolidation_obstacle: Mapped[str | None]  # ConsolidationObstacle, of a pipeline

    __table_args__ = (
        Index(
            "ix_endpoints_live",
            "model_id",
            postgresql_where=text("state NOT IN ('STOPPED', 'FAILED')"),
        ),
        Index(
            "ix_endpoints_failed",
            "model_id",
            "ended_at",
            postgresql_where=text("state = 'FAILED'"),
        ),
        Index(
            "ix_endpoints_ended",
            "ended_at",
            postgresql_where=text("state IN ('STOPPED', 'FAILED')"),
        ),
        Index(
            "ix_endpoints_history",
            "tenant",
            "created_at",
            postgresql_where=text("state IN ('STOPPED', 'FAILED')"),
        ),
        Index(
            "ix_endpoints_parent_id", "parent_id", postgresql_where=text("parent_id IS NOT NULL")
        ),
        Index("ix_endpoints_model_id", "model_id"),  # before a model's row may go
    )


class WorkerRow(Base):
    __tablename__ = "workers"
    id: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"))
    node_id: Mapped[str]  # no foreign key: history outlives the node
    device_index: Mapped[int]
    stage_index: Mapped[int]
    engine: Mapped[str] = mapped_column(server_default=text("'stage'"))  # EngineKind
    state: Mapped[str]  # WorkerState
    cause: Mapped[str | None]  # in words, for people
    cause_kind: Mapped[str | None]  # CauseKind
    cause_facts: Mapped[dict[str, Any] | None]
    spec: Mapped[dict[str, Any]]  # messages.WorkerSpec
    is_desired: Mapped[bool] = mapped_column(server_default=text("true"))
    # False while its weights are fetched first: then its node is told the fetch alone.
    is_launch_due: Mapped[bool] = mapped_column(server_default=text("true"))
    pid: Mapped[int | None]
    address: Mapped[str | None]
    public_key: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ready_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_workers_desired", "node_id", postgresql_where=text("is_desired")),
        Index(
            "ix_workers_stopping",
            "node_id",
            postgresql_where=text("NOT is_desired AND ended_at IS NULL"),
        ),
        Index("ix_workers_endpoint_id", "endpoint_id"),
        Index(
            "ix_workers_live",
            "endpoint_id",
            postgresql_where=text("state NOT IN ('STOPPED', 'FAILED')"),
        ),
    )


class EndpointMemberRow(Base):
    """A worker's part in one generation of its endpoint. A later generation may give it more."""

    __tablename__ = "endpoint_members"
    endpoint_id: Mapped[str] = mapped_column(
        ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True
    )
    generation: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    worker_id: Mapped[str] = mapped_column(
        ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True
    )
    role: Mapped[str]  # MemberRole
    stage_index: Mapped[int]
    first_layer: Mapped[int]
    last_layer: Mapped[int]  # exclusive
    memory: Mapped[str]  # MemberMemory

    __table_args__ = (Index("ix_endpoint_members_worker_id", "worker_id"),)


class FetchRow(Base):
    """Units that a node shall hold.

    One that is no longer desired disappears from the node's desired state; what it verified stays
    in the host cache. It ends with the endpoint and worker that it is for; a prefetch has neither.
    """

    __tablename__ = "fetches"
    id: Mapped[str] = mapped_column(primary_key=True)
    node_id: Mapped[str]  # no foreign key, as above
    endpoint_id: Mapped[str | None] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"))
    worker_id: Mapped[str | None] = mapped_column(ForeignKey("workers.id", ondelete="CASCADE"))
    purpose: Mapped[str]  # FetchPurpose
    fetch_class: Mapped[str]  # FetchClass
    manifest_digest: Mapped[str]
    unit_digests: Mapped[list[str]]  # in the order in which they are needed
    traceparent: Mapped[str | None]
    deadline_at: Mapped[datetime | None]
    is_desired: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index("ix_fetches_desired", "node_id", postgresql_where=text("is_desired")),
        Index("ix_fetches_endpoint_id", "endpoint_id"),
        Index("ix_fetches_worker_id", "worker_id"),
        Index(
            "uq_fetches_start_of_worker",
            "worker_id",
            unique=True,
            postgresql_where=text("purpose = 'start'"),
        ),
    )


class ConsolidationRow(Base):
    """An endpoint's way from a pipeline to its entry alone, which ends once; or, where it is a
    scale-up, that of another of its workers to an endpoint of its own.

    While it is open the worker's node is told the target. The members of its generation are written
    with it; which units are fetched is in the row of the fetch.
    """

    __tablename__ = "consolidations"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    model_id: Mapped[str]  # no foreign key: the endpoint has it
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"))
    generation: Mapped[int]  # of the endpoint, that it leads to
    attempt: Mapped[int] = mapped_column(server_default=text("1"))  # of the worker, at that one
    is_scale_up: Mapped[bool] = mapped_column(server_default=text("false"))
    worker_id: Mapped[str] = mapped_column(ForeignKey("workers.id", ondelete="CASCADE"))
    # None: the entry had switched before anybody recorded that it should.
    fetch_id: Mapped[str | None] = mapped_column(ForeignKey("fetches.id", ondelete="CASCADE"))
    state: Mapped[str]  # ConsolidationState
    why: Mapped[str]  # it was begun, in words
    detail: Mapped[str | None]  # why it ended, in words
    is_retried: Mapped[bool] = mapped_column(server_default=text("false"))  # after a back-off
    load_bytes: Mapped[int]  # of the layers that the entry lacked
    freed_bytes: Mapped[int]  # reserved on devices by the others
    kv_bytes: Mapped[int]  # of all layers, on the entry
    expected_s: Mapped[float | None]  # as predicted when it was begun
    timeout_s: Mapped[float]  # for the weights to come
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    copying_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    switch: Mapped[dict[str, Any] | None]  # SwitchObserved; none of a scale-up
    pause_p50_ms: Mapped[float | None]  # of the requests that ran
    pause_max_ms: Mapped[float | None]

    __table_args__ = (
        Index(
            "uq_consolidations_open",
            "worker_id",
            unique=True,
            postgresql_where=text("ended_at IS NULL"),
        ),
        Index("ix_consolidations_endpoint_id", "endpoint_id", "started_at"),
        Index("ix_consolidations_model_id_started_at", "model_id", "started_at"),
        Index("ix_consolidations_worker_id", "worker_id"),
        Index("ix_consolidations_fetch_id", "fetch_id"),
    )


class PrefetchRow(Base):
    """Weights that a node fetches because their model is likely to be asked soon. Which units these
    are, and until when they have time, is in the row of the fetch."""

    __tablename__ = "prefetches"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    node_id: Mapped[str]
    fetch_id: Mapped[str] = mapped_column(ForeignKey("fetches.id", ondelete="CASCADE"))
    file_bytes: Mapped[int]  # that its units take of the host cache
    state: Mapped[str]  # PrefetchState
    detail: Mapped[str | None]  # why it ended, in words
    expires_at: Mapped[datetime]  # its model is not expected any more
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    complete_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_prefetches_fetch_id", "fetch_id", unique=True),
        Index("ix_prefetches_model_id_started_at", "model_id", "started_at"),
        Index("ix_prefetches_open", "id", postgresql_where=text("ended_at IS NULL")),
        Index("ix_prefetches_ended_at", "ended_at"),
    )


class ReservationRow(Base):
    """Device bytes held for a worker, made in one transaction with the plan.

    Whoever changes `device_bytes` counts what was held until then first (`memory_accounts.py`).
    """

    __tablename__ = "reservations"
    worker_id: Mapped[str] = mapped_column(
        ForeignKey("workers.id", ondelete="CASCADE"), primary_key=True
    )
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.id"))
    device_index: Mapped[int]
    device_bytes: Mapped[int]
    counted_until: Mapped[datetime] = mapped_column(server_default=func.now())  # in accounts
    # Of its endpoint at that moment. Of a worker that joins an endpoint later: what that has then.
    idle_s_before: Mapped[Decimal] = mapped_column(server_default=text("0"))

    __table_args__ = (Index("ix_reservations_node_id_device_index", "node_id", "device_index"),)


class ColdStartRow(Base):
    __tablename__ = "cold_starts"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    model_id: Mapped[str] = mapped_column(ForeignKey("models.id"))
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"))
    request_id: Mapped[str | None]  # whose wait made it necessary
    traceparent: Mapped[str | None]
    weight_bytes: Mapped[int]
    bytes_from_cache: Mapped[int] = mapped_column(server_default=text("0"))
    # None: of a version that did not predict. TTFT is from the arrival of `request_id`.
    predicted_ttft_ms: Mapped[float | None]
    measured_ttft_ms: Mapped[float | None]  # None: no token yet, or nobody saw it
    predicted_tpot_ms: Mapped[float | None]
    predicted_cost_byte_s: Mapped[float | None]  # device memory x time
    # The plan that was taken, and then those that lost: `ConsideredPlan` of the scheduler's store.
    plans: Mapped[list[dict[str, Any]] | None]
    cause: Mapped[str | None]  # when it failed, in words
    cause_kind: Mapped[str | None]  # CauseKind
    cause_facts: Mapped[dict[str, Any] | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    ready_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_cold_starts_tenant_started_at", "tenant", "started_at"),
        Index("ix_cold_starts_endpoint_id", "endpoint_id"),
        Index("ix_cold_starts_model_id", "model_id"),
        Index(
            "ix_cold_starts_request_id",
            "request_id",
            postgresql_where=text("request_id IS NOT NULL"),
        ),
    )


class ColdStartStepRow(Base):
    """Wall times are those of the node that did the step."""

    __tablename__ = "cold_start_steps"
    cold_start_id: Mapped[str] = mapped_column(
        ForeignKey("cold_starts.id", ondelete="CASCADE"), primary_key=True
    )
    actor: Mapped[str] = mapped_column(primary_key=True)  # scheduler, fetcher or worker id
    name: Mapped[str] = mapped_column(primary_key=True)
    node_id: Mapped[str | None]
    stage_index: Mapped[int | None]
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    detail: Mapped[str] = mapped_column(server_default=text("''"))


class RequestRow(Base):
    __tablename__ = "requests"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    model_id: Mapped[str]  # no foreign key: accounting outlives the model
    gateway_id: Mapped[str]
    api_key_id: Mapped[str | None]
    attempt: Mapped[int]
    num_engine_crashes: Mapped[int] = mapped_column(server_default=text("0"))  # under it
    num_node_losses: Mapped[int] = mapped_column(server_default=text("0"))
    state: Mapped[str]  # RequestState
    endpoint_id: Mapped[str | None]
    cold_start_id: Mapped[str | None]  # what it waited for
    num_prompt_tokens: Mapped[int]
    max_tokens: Mapped[int]
    num_generated_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    arrived_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deadline_at: Mapped[datetime]
    assigned_at: Mapped[datetime | None]  # for the first time
    first_token_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]  # RequestOutcome
    error: Mapped[str | None]
    # As they were when it arrived, and what its gateway measured; None: not known, or no such time.
    slo_ttft_ms: Mapped[int | None]
    slo_tpot_ms: Mapped[int | None]
    ttft_ms: Mapped[float | None]
    tpot_ms: Mapped[float | None]
    is_slo_met: Mapped[bool | None]
    slo_miss: Mapped[str | None]  # SloMiss: why it was not met
    # `usage` has it, with its gateway's figures unless that died; who ended it is another matter.
    is_accounted: Mapped[bool] = mapped_column(server_default=text("false"))

    __table_args__ = (
        Index(
            "ix_requests_open",
            "model_id",
            "arrived_at",
            postgresql_where=text("state <> 'ENDED'"),
        ),
        Index("ix_requests_tenant_arrived_at", "tenant", "arrived_at"),
        Index("ix_requests_model_id_arrived_at", "model_id", "arrived_at"),
        Index(
            "ix_requests_missed",
            "tenant",
            "arrived_at",
            postgresql_where=text("slo_miss IS NOT NULL"),
        ),
        Index(
            "ix_requests_missed_of_model",
            "model_id",
            "arrived_at",
            postgresql_where=text("slo_miss IS NOT NULL"),
        ),
        Index(
            "ix_requests_unaccounted",
            "ended_at",
            postgresql_where=text("state = 'ENDED' AND NOT is_accounted"),
        ),
        Index("ix_requests_ended", "ended_at", postgresql_where=text("state = 'ENDED'")),
    )


class RequestLossRow(Base):
    """An endpoint that a request was lost with, as its gateway reported; each counts once."""

    __tablename__ = "request_losses"
    request_id: Mapped[str] = mapped_column(
        ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True
    )
    endpoint_id: Mapped[str] = mapped_column(primary_key=True)  # no foreign key: history
    has_progressed: Mapped[bool]  # the attempt there had delivered a token
    kind: Mapped[str | None]  # LossKind; None until the cause of the endpoint's end is known
    reported_at: Mapped[datetime] = mapped_column(server_default=func.now())


class GatewayRow(Base):
    __tablename__ = "gateways"
    id: Mapped[str] = mapped_column(primary_key=True)
    heard_at: Mapped[datetime] = mapped_column(server_default=func.now())


class HostCacheRow(Base):
    """A complete unit in a node's shared memory, as its fetcher told; there are millions."""

    __tablename__ = "host_cache"
    __table_args__ = (Index(None, "node_id", "unit_digest"),)  # what has this node?
    unit_digest: Mapped[bytes] = mapped_column(primary_key=True)  # who has this unit?
    node_id: Mapped[str] = mapped_column(
        ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True
    )


class ApiKeyRow(Base):
    __tablename__ = "api_keys"
    id: Mapped[str] = mapped_column(primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    key_sha256: Mapped[str] = mapped_column(unique=True)  # keys are 160 random bits: no salt needed
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]  # to the minute


class UsageRow(Base):
    """Of a day, kept for ever. Device memory comes from `memory_hours` when those are forgotten."""

    __tablename__ = "usage"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    num_requests: Mapped[int] = mapped_column(server_default=text("0"))
    num_prompt_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    num_generated_tokens: Mapped[int] = mapped_column(server_default=text("0"))
    starting_byte_s: Mapped[Decimal] = mapped_column(server_default=text("0"))
    busy_byte_s: Mapped[Decimal] = mapped_column(server_default=text("0"))
    idle_byte_s: Mapped[Decimal] = mapped_column(server_default=text("0"))


class MemoryHourRow(Base):
    """Device memory x time that a model's endpoints held in an hour (UTC), as far as it is counted:
    what live workers hold is counted when they end, or the hour does. The scheduler writes it."""

    __tablename__ = "memory_hours"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    starting_byte_s: Mapped[Decimal] = mapped_column(server_default=text("0"))
    busy_byte_s: Mapped[Decimal] = mapped_column(server_default=text("0"))
    idle_byte_s: Mapped[Decimal] = mapped_column(server_default=text("0"))

    __table_args__ = (Index("ix_memory_hours_hour", "hour"),)  # what may be forgotten


class SloHourRow(Base):
    """How many requests of a model that ended in an hour (UTC) met its SLO, and why others did not.
    Gateways write it; requests of which nobody can tell are in no column."""

    __tablename__ = "slo_hours"
    tenant: Mapped[str] = mapped_column(primary_key=True)
    model_id: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    num_met: Mapped[int] = mapped_column(server_default=text("0"))
    # One for each SloMiss.
    num_queue: Mapped[int] = mapped_column(server_default=text("0"))
    num_cold_start: Mapped[int] = mapped_column(server_default=text("0"))
    num_network: Mapped[int] = mapped_column(server_default=text("0"))
    num_prefill: Mapped[int] = mapped_column(server_default=text("0"))
    num_engine: Mapped[int] = mapped_column(server_default=text("0"))
    num_failed: Mapped[int] = mapped_column(server_default=text("0"))

    __table_args__ = (Index("ix_slo_hours_hour", "hour"),)


class OutboxRow(Base):
    """A message to publish once the transaction that wrote it has committed."""

    __tablename__ = "outbox"
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    service: Mapped[str]  # who publishes it; a policy lets the gateway's role write its own only
    subject: Mapped[str]  # Subject.pattern
    token: Mapped[str | None]
    body: Mapped[dict[str, Any]]
    traceparent: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (Index("ix_outbox_service_id", "service", "id"),)
