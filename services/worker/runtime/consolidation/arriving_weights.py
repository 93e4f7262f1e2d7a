"""Weights of layers that arrive while others are in use."""

import torch

from services.worker.engine.model.weights import UnitKey
from services.worker.runtime.parameters import ParameterManager
from services.worker.runtime.placement import DevicePlacement, HostPlacement
from services.worker.runtime.unit_mapper import UnitMapper


class ArrivingParameters(ParameterManager):
    """The engine's ArrivingWeights; for one thread."""

    def __init__(self, mapper: UnitMapper, device: str) -> None:
        placement = (
            HostPlacement(mapper)
            if device == "cpu"
            else DevicePlacement(mapper, torch.device(device))
        )
        super().__init__(mapper, placement)

    def is_ready(self, unit: UnitKey) -> bool:
        """Whether all bytes of the unit are in the node's memory. Waits for nothing.

        Raises WeightsUnavailable when they will never be.
        """
        return self._mapper.is_described and self._mapper.arrived(self._entry(unit)) is not None
