"""Which entries of a mapping are other ones than in an earlier one, by identity. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import compress
from operator import is_not


def changed_keys(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    """Also those that came or went. May name some whose entries are the same.

    Values that nobody changed are the same objects, and mostly in the same order: then thousands
    are compared without a step of the interpreter.
    """
    if before is after:
        return set()
    if len(before) == len(after):
        changed = set(compress(after, map(is_not, after.values(), before.values())))
        if all(key in before for key in changed):
            return changed
    changed = {key for key, value in after.items() if before.get(key) is not value}
    return changed.union(key for key in before if key not in after)


@dataclass
class LastComparison:
    """Remembers the last answer, where several ask for the same one after the other."""

    _before: Mapping[str, object] = field(default_factory=dict)
    _after: Mapping[str, object] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)

    def changed_keys(self, before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
        if before is not self._before or after is not self._after:
            self._changed = changed_keys(before, after)
            self._before, self._after = before, after
        return self._changed
