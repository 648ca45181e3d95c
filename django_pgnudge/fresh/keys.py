"""The names of everything that proves a cached value fresh, shared by readers and the daemon.

All of it lives in the cache that holds the values, beside them: a token for each table, for the
bulk changes of a table and for each row; an epoch for the whole; and the lease with its two
grants. A token is a random value that is never made twice. To change it is to delete its key: a
token that is missing matches nothing, and whoever needs it makes another.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ..decoding.nudges import SETTLE_PREFIX, is_nudge
from ..events import ANY_NUDGE, Event, Key

__all__ = ["SETTLE_PREFIX", "Dependency", "Lease", "Names", "killed_tokens"]

_SAFE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")

Coverage: TypeAlias = frozenset[str]


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a value was computed from: a whole table, or one row of it."""

    payload: str
    row: Key | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """What the daemon writes when it has proved itself current.

    ``grant`` is the value of the grant that was written before the proof began and ends with its
    own time to live; ``coverage`` names the list of the payloads that the stream carries.
    """

    grant: str
    coverage: str

    def packed(self) -> tuple[str, str]:
        """As it is stored: of plain types, for caches that do not pickle."""
        return self.grant, self.coverage

    @classmethod
    def held(cls, names: Names, found: Mapping[str, Any]) -> Lease | None:
        """The lease in an answer of the cache, if the grant it was proved under has not ended."""
        packed = found.get(names.lease)
        if not (isinstance(packed, (tuple, list)) and len(packed) == 2):
            return None
        lease = cls(*packed)
        return lease if lease.grant in [found.get(grant) for grant in names.grants] else None


class Names:
    """Keys for one database alias, below 250 characters and fit for every cache backend."""

    @classmethod
    @functools.cache
    def of(cls, using: str) -> Names:
        """The same ones for the same alias."""
        return cls(using)

    def __init__(self, using: str) -> None:
        self._base = f"pgnudge:{_fit(using)}"
        self.epoch = f"{self._base}:epoch"
        self.lease = f"{self._base}:lease"
        self.grants = (f"{self._base}:grant0", f"{self._base}:grant1")
        self.settled = f"{self._base}:settled"
        """Where the requests to settle are listed that were answered last."""

    def mark(self, daemon: str) -> str:
        """Where the daemon of that name counts its rounds of deletes."""
        return f"{self._base}:mark:{daemon}"

    def coverage(self, digest: str) -> str:
        """Where the payloads covered are listed."""
        return f"{self._base}:coverage:{digest}"

    def entry(self, name: str) -> str:
        """Where a value is kept."""
        return f"{self._base}:value:{_fit(name)}"

    def table(self, payload: str) -> str:
        """The token of any change to a table."""
        return f"{self._base}:table:{_fit(payload)}"

    def bulk(self, payload: str) -> str:
        """The token of changes to unknown rows of a table."""
        return f"{self._base}:bulk:{_fit(payload)}"

    def row(self, payload: str, key: Key) -> str:
        """The token of changes to one row."""
        return f"{self._base}:row:{_fit(payload)}:{_fit(repr(key))}"

    def tokens(self, dependency: Dependency) -> tuple[str, ...]:
        """The tokens that a value with this dependency stands on."""
        if is_nudge(dependency.payload):
            return (self.table(dependency.payload), self.table(ANY_NUDGE))
        if dependency.row is None:
            return (self.table(dependency.payload),)
        return (self.bulk(dependency.payload), self.row(dependency.payload, dependency.row))


def killed_tokens(names: Names, payloads: Iterable[str], event: Event) -> set[str]:
    """The tokens that a change ends, under each of the names a table goes by."""
    killed: set[str] = set()
    for payload in payloads:
        killed.add(names.table(payload))
        if is_nudge(payload):
            continue
        if event.keys is None:
            killed.add(names.bulk(payload))
        else:
            killed.update(names.row(payload, key) for key in event.keys)
    return killed


def _fit(text: str) -> str:
    """The text itself if it can stand in any key, else what is left of it and a digest."""
    if len(text) <= 60 and _SAFE.issuperset(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    kept = "".join(char if char in _SAFE else "_" for char in text[:20])
    return f"{kept}~{digest}"
