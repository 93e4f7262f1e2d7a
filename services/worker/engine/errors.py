"""Errors of the stage engine.

EngineError
├── ConfigError       a model configuration that this engine does not run; `key` names the culprit
├── TensorError       a weight is missing or has the wrong shape or type; `name` names it
└── MicroBatchRefused a neighbour stage asks for what this stage does not hold; its `number`
"""

from services.worker.errors import WorkerError


class EngineError(WorkerError):
    pass


class ConfigError(EngineError):
    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"model configuration: {key}: {reason}")
        self.key = key
        self.reason = reason


class TensorError(EngineError):
    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"weight {name}: {reason}")
        self.name = name
        self.reason = reason


class MicroBatchRefused(EngineError):
    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"micro-batch {number}: {reason}")
        self.number = number
        self.reason = reason
