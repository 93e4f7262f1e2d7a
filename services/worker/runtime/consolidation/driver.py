"""Gives an entry stage what it needs to become the whole model: the weights of the other layers as
they arrive, and an inlet for keys and values."""

from pathlib import Path

import torch

from libs.common.modelconfig.config import ModelConfig
from libs.common.network.nic_rate_limiter import NicRateLimiter
from services.worker.engine.consolidation.kv_ports import KvReceiver
from services.worker.engine.consolidation.options import ConsolidationOptions
from services.worker.engine.engine import StageEngine
from services.worker.frames.consolidation import AbandonConsolidation, Consolidate
from services.worker.frames.frames import StartWorker
from services.worker.runtime.channel import Channel
from services.worker.runtime.consolidation.arriving_weights import ArrivingParameters
from services.worker.runtime.consolidation.loading import lacking_units, whole_packed_bytes
from services.worker.runtime.consolidation.report import ConsolidationReport
from services.worker.runtime.neighbours import kv_limit
from services.worker.runtime.unit_mapper import UnitMapper

Attempt = tuple[int, int]  # generation and number


class ConsolidationDriver:
    """For the thread that owns the engine."""

    def __init__(
        self,
        engine: StageEngine,
        start: StartWorker,
        channel: Channel,
        config: ModelConfig,
        dtype: torch.dtype,
    ) -> None:
        self._engine, self._start, self._channel = engine, start, channel
        self._config, self._dtype = config, dtype
        self._attempt: Attempt | None = None  # the latest
        self._mapper: UnitMapper | None = None  # of the one under way
        self._used: UnitMapper | None = None  # of the one that has switched: it has the leases

    @property
    def is_under_way(self) -> bool:
        """See Consolidations."""
        return self._mapper is not None

    def begin(self, frame: Consolidate) -> None:
        """See Consolidations."""
        attempt = (frame.generation, frame.attempt)
        if attempt == self._attempt:
            return
        self._engine.abandon_consolidation("another attempt begins")
        self._attempt = attempt
        report = ConsolidationReport(frame, self._channel.send, self._note_end)
        mapper = self._mapper = lacking_units(self._start, frame, self._channel.send)
        mapper.start()
        self._engine.begin_consolidation(
            ArrivingParameters(mapper, self._start.device),
            self._inlet(),
            self._options(frame),
            report,
        )

    def abandon(self, frame: AbandonConsolidation) -> None:
        """See Consolidations."""
        if (frame.generation, frame.attempt) == self._attempt:
            self._engine.abandon_consolidation("it is not wanted any more")

    def _note_end(self, *, has_switched: bool) -> None:
        """Of the attempt under way."""
        mapper, self._mapper = self._mapper, None
        if has_switched:
            self._used = mapper
        elif mapper is not None:
            mapper.close()

    def _inlet(self) -> KvReceiver:
        # Here, so that a start loads nothing for it.
        from services.worker.runtime.dataplane.kv_inlet import KvInlet
        from services.worker.runtime.dataplane.kv_wire import KvShape

        config, options = self._config, self._start.data_plane
        shape = KvShape(config.num_layers, config.num_kv_heads, config.head_dim, self._dtype)
        limit = kv_limit(options.nic_ledger)
        return KvInlet(options.host, options.security, shape, after_receipt=limit)

    def _options(self, frame: Consolidate) -> ConsolidationOptions:
        return ConsolidationOptions(
            generation=frame.generation,
            packed_bytes=whole_packed_bytes(self._start, frame),
            link_bytes_per_s=_link_bytes_per_s(self._start.data_plane.nic_ledger),
        )


def _link_bytes_per_s(nic_ledger: str | None) -> int:
    """The rate of the node's card; 0 where no limit is set."""
    if nic_ledger is None:
        return 0
    limiter = NicRateLimiter.attach(Path(nic_ledger))
    try:
        return limiter.rate_bytes_per_s
    finally:
        limiter.close()
