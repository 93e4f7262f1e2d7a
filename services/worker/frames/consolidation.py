"""Frames by which an entry stage becomes the whole endpoint. Plain values.

An attempt is named by its generation and its number: one that is taken back can be ordered anew
with the same generation, and what is said of the one before must not be taken for it.
"""

from dataclasses import dataclass
from math import isfinite

from libs.common.states import ConsolidationPhase

MAX_PAUSES = 256  # that are told of one switch


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


@dataclass(frozen=True)
class RequestPause:
    """The gap between two tokens in which the switch was."""

    request_id: str
    pause_s: float
    usual_gap_s: float | None = None  # between its tokens before; None: it had one only

    def __post_init__(self) -> None:
        if not all(isfinite(s) and s >= 0 for s in (self.pause_s, self.usual_gap_s or 0.0)):
            raise ValueError("a pause is a time")


@dataclass(frozen=True)
class SwitchMeasured:
    """Worker → agent: how the switch went; once whoever ran has its next token, or has ended."""

    generation: int
    attempt: int
    is_recomputed: bool  # keys and values of what ran; otherwise they were moved
    num_sequences: int  # that ran
    precopied_bytes: int  # of keys and values that came before it
    moved_bytes: int  # and during it
    drain_s: float  # until the pipeline had nothing in flight
    move_s: float  # and then until all keys and values were there
    pauses: tuple[RequestPause, ...] = ()  # the longest first
    # As predicted when the weights were complete, by which the transfer was chosen.
    predicted_move_s: float | None = None
    predicted_recompute_s: float | None = None  # None: nobody had measured a prompt

    def __post_init__(self) -> None:
        if len(self.pauses) > MAX_PAUSES:
            raise ValueError(f"{len(self.pauses)} pauses are more than {MAX_PAUSES}")
        predicted = (self.predicted_move_s or 0.0, self.predicted_recompute_s or 0.0)
        if not all(isfinite(s) and s >= 0 for s in (self.drain_s, self.move_s, *predicted)):
            raise ValueError("what it took is a time")
        if min(self.num_sequences, self.precopied_bytes, self.moved_bytes) < 0:
            raise ValueError("what was moved is no number")
