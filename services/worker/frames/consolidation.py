"""Frames by which an entry stage becomes the whole endpoint. Plain values.

An attempt is named by its generation and its number: one that is taken back can be ordered anew
with the same generation, and what is said of the one before must not be taken for it.
"""

from dataclasses import dataclass

from libs.common.states import ConsolidationPhase


@dataclass(frozen=True)
class Consolidate:
    """Agent → worker: become the whole model, in the background. Said twice, it changes nothing."""

    generation: int
    attempt: int
    unit_digests: tuple[str, ...]  # that it lacks, in the order in which it needs them
    kv_bytes: int  # of all layers
    timeout_ms: int  # for the weights to come

    def __post_init__(self) -> None:
        if self.generation < 2 or self.attempt < 1 or self.timeout_ms < 1:
            raise ValueError("a generation after the first, an attempt and a time are needed")


@dataclass(frozen=True)
class AbandonConsolidation:
    """Agent → worker: stay a stage. Changes nothing once it has switched."""

    generation: int
    attempt: int


@dataclass(frozen=True)
class ConsolidationChanged:
    """Worker → agent: how far it is. Nothing follows SWITCHED or ABANDONED of an attempt."""

    generation: int
    attempt: int
    phase: ConsolidationPhase
    why: str = ""  # with ABANDONED
