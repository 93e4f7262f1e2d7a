"""What has changed since the last round: where decisions have to be looked for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Changed:
    """Ids. A sweep looks also at what time alone makes due: keep-alives, deadlines and losses."""

    nodes: frozenset[str] = frozenset()  # others than before: each of their endpoints is looked at
    spoke: frozenset[str] = frozenset()  # nodes that told more of what starts or ends there
    endpoints: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()  # their rows, or those of their requests
    is_sweep: bool = False
    # A round went before that could not decide everything, or freed room.
    is_continued: bool = False


SWEEP = Changed(is_sweep=True)
