"""What is to be deleted from one version of one cache."""

from __future__ import annotations

from dataclasses import dataclass, field

from django_pgnudge.rules.keyspecs import Fixed, Pattern


@dataclass(slots=True)
class Deletes:
    """What to delete from one version of one cache.

    ``patterns`` are globs in which ``*`` is special and the rest is escaped. ``whole`` means
    everything, as after a gap; a glob for everything would match sessions too.

    ``later`` is what to delete once more, by the seconds to wait. The second deletion removes a
    value that was read before the change and stored after the first deletion.
    """

    keys: set[str] = field(default_factory=set)
    patterns: set[str] = field(default_factory=set)
    whole: bool = False
    later: dict[float, Deletes] = field(default_factory=dict)

    def merge(self, other: Deletes) -> None:
        """Add everything of another; its sets are copied."""
        self.keys |= other.keys
        self.patterns |= other.patterns
        self.whole |= other.whole
        for delay, deletes in other.later.items():
            self.later.setdefault(delay, Deletes()).merge(deletes)

    def add(self, spec: Fixed | Pattern) -> None:
        """Add one key or pattern."""
        if isinstance(spec, Fixed):
            self.keys.add(spec.key)
        elif spec.glob.strip("*"):
            self.patterns.add(spec.glob)
        else:
            self.whole = True

    def __bool__(self) -> bool:
        return bool(self.keys or self.patterns or self.whole)
