"""Sizes and times in words, and words for a terminal. Pure."""

from datetime import datetime

_SIZES = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
# C0, DEL and C1, but for tab and newline: what a model writes must not steer the terminal.
_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (9, 10)}
_TIMES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def size(num_bytes: int | None) -> str:
    """`269.1 MB`, in powers of ten as networks and disks have them."""
    if num_bytes is None:
        return "-"
    for unit_bytes, name in _SIZES:
        if abs(num_bytes) >= unit_bytes:
            return f"{num_bytes / unit_bytes:.1f} {name}"
    return f"{num_bytes} B"


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def age(moment: datetime | None, now: datetime) -> str:
    """`12 s ago`; clocks of two machines may differ, so nothing is in the future."""
    if moment is None:
        return "never"
    elapsed_s = max(0.0, (now - moment).total_seconds())
    for unit_s, name in _TIMES:
        if elapsed_s >= unit_s:
            return f"{elapsed_s // unit_s:.0f} {name} ago"
    return "now"


def one_line(text: str | None, max_characters: int = 100) -> str:
    """For a column: a dash for nothing, and an end where it is long."""
    words = " ".join((text or "").split())
    if len(words) > max_characters:
        return words[: max_characters - 1] + "…"
    return words or "-"


def without_controls(text: str) -> str:
    """As long as `text`: each control character is shown as one that is none."""
    return text.translate(_CONTROLS)
