"""The names of everything that proves a cached value fresh, shared by readers and the daemon.

All of it is in the same cache as the values: a token for each table, one for the bulk changes of
a table, one for each row; and the lease, which names the epoch. A token is a random value that is
never made twice. The daemon ends a token by deleting its key. A missing token matches nothing, and
the next reader that needs it makes another.

Names begin with the database's own identity: two sites behind one Redis that both call their
database "default" have nothing in common.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from django_pgnudge.decoding.nudges import is_nudge
from django_pgnudge.events import ANY_NUDGE, Event, Key

_UNSAFE: Final = re.compile(r"[^a-zA-Z0-9_.-]")

Coverage: TypeAlias = frozenset[str]


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a value was computed from: a whole table, or one row of it."""

    payload: str
    row: Key | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """What the daemon writes when it has proved itself current.

    ``proven`` is when the proof began, in seconds by the clock of the cache, and ``length`` for how
    many seconds from then it holds. ``epoch`` is what every entry names that may be served under
    it, ``coverage`` the digest of the payloads that the stream carries, and ``keeper`` who wrote
    it.
    """

    proven: float
    length: float
    epoch: str
    coverage: str
    keeper: str

    def text(self) -> str:
        """The text that is stored."""
        return (
            f"{_FORMAT} {self.proven:.6f} {self.length:g} {self.epoch} {self.coverage}"
            f" {self.keeper}"
        )

    @classmethod
    def parse(cls, text: str) -> Lease | None:
        """The lease of a stored text; None for any other text."""
        return _parse(text)

    def age(self, now: float) -> float:
        """Seconds since the proof began: below zero if that is still to come by this clock."""
        return now - self.proven

    def holds(self, now: float, skew: float) -> bool:
        """Whether it is neither over nor from the future by more than ``skew`` seconds."""
        return -skew <= now - self.proven <= self.length


_FORMAT: Final = "lease2"


@functools.lru_cache(64)
def _parse(text: str) -> Lease | None:
    words = text.split(" ")
    if len(words) != 6 or words[0] != _FORMAT:
        return None
    try:
        return Lease(float(words[1]), float(words[2]), *words[3:])
    except ValueError:
        return None


class Names:
    """Keys for one database, below 250 characters and fit for every cache backend."""

    @classmethod
    @functools.lru_cache(256)
    def of(cls, identity: str) -> Names:
        """The same ones for the same identity; see ``Registry.identity``."""
        return cls(identity)

    def __init__(self, identity: str) -> None:
        # A Redis Cluster hashes only what is in braces, so all of these keys share a slot.
        self._base = f"pgnudge:{{{_fit(identity)}}}"
        self._entries = f"pgnudge:{_fit(identity)}:value"
        self.lease = f"{self._base}:lease"
        self.settled = f"{self._base}:settled"
        """Where the requests to settle are listed that were answered last."""

    def mark(self, daemon: str) -> str:
        """Where the daemon of that name counts its rounds of deletes."""
        return f"{self._base}:mark:{daemon}"

    def coverage(self, digest: str) -> str:
        """Where the payloads covered are listed."""
        return f"{self._base}:coverage:{digest}"

    def learned(self, what: str) -> str:
        """Where the tables are listed that a function was seen to touch."""
        return f"{self._entries}:touched:{_fit(what)}"

    def entry(self, name: str) -> str:
        """Where a value is kept."""
        return f"{self._entries}:{_fit(name)}"

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


def ended_tokens(names: Names, payloads: Iterable[str], event: Event) -> set[str]:
    """The tokens that a change ends, under each of the names a table goes by."""
    ended: set[str] = set()
    for payload in payloads:
        ended.add(names.table(payload))
        if is_nudge(payload):
            continue
        if event.keys is None:
            ended.add(names.bulk(payload))
        else:
            ended.update(names.row(payload, key) for key in event.keys)
    return ended


def _fit(text: str) -> str:
    """The text itself if it fits into any key, else its safe beginning and a digest."""
    if len(text) <= 60 and not _UNSAFE.search(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return f"{_UNSAFE.sub('_', text[:20])}~{digest}"
