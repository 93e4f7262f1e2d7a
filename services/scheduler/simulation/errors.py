"""Errors of the simulator.

HydraError
└── SimulationError     a run cannot go on: a decision of the scheduler failed
    ├── ScenarioError   a scenario's value is wrong
    └── TraceError      a row of a trace is wrong
"""

from pathlib import Path

from libs.common.errors import HydraError


class SimulationError(HydraError):
    pass


class ScenarioError(SimulationError):
    """Names the file, the key, its value and what is expected there."""

    def __init__(self, source: str, key: str, value: object, expected: str) -> None:
        super().__init__(f"{source}: {key} = {value!r}: expected {expected}")
        self.source, self.key, self.value, self.expected = source, key, value, expected


class TraceError(SimulationError):
    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path}, line {line}: {problem}")
        self.path, self.line, self.problem = path, line, problem
