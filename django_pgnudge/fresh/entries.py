"""What is stored beside the tokens, and whether what a cache answered may be served.

Pure: a reader asks the cache one question (``Plan.asked``), and ``judge`` reads the answer.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from django_pgnudge.caches.asking import Question
from django_pgnudge.fresh.keys import Coverage, Lease

if TYPE_CHECKING:
    from django_pgnudge.fresh.keys import Dependency, Names

__all__ = ["LEASE_KEYS", "Hit", "Miss", "Plan", "Stamp", "judge", "new_token", "pack"]

LEASE_KEYS: Final = 3
"""How many of the keys asked, the first ones, make up the lease."""

_FORMAT: Final = "pgnudge1"


@dataclass(frozen=True, slots=True)
class Plan:
    """The keys of one value.

    ``tokens`` begins with the epoch. ``tables`` are the payloads that the stream must cover;
    an application's own nudge, which has no schema, is in every stream.
    """

    names: Names
    entry: str
    lock: str
    tokens: tuple[str, ...]
    tables: frozenset[str]
    lasting: frozenset[str]
    question: Question = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        keys = [self.names.lease, *self.names.grants, self.entry, *self.tokens]
        object.__setattr__(self, "question", Question(keys, single=self.entry))

    @classmethod
    def of(cls, names: Names, entry: str, dependencies: frozenset[Dependency]) -> Plan:
        """The plan of a value under the cache key ``entry``."""
        tokens = {token for each in dependencies for token in names.tokens(each)}
        rows = {names.tokens(each)[-1] for each in dependencies if each.row is not None}
        return cls(
            names=names,
            entry=entry,
            lock=f"{entry}:lock",
            tokens=(names.epoch, *sorted(tokens)),
            tables=frozenset(each.payload for each in dependencies if "." in each.payload),
            lasting=frozenset({names.epoch, *tokens} - rows),
        )

    def asked(self) -> Question:
        """What a hit needs, in one question.

        The lease and its grants come first. Some caches answer a question key by key: a token
        that was there after the lease was read has outlived every deletion the lease speaks of,
        and one that was read before may not have.
        """
        return self.question

    def coverage_key(self, digest: str) -> str:
        """Where the payloads that a stream carries are listed."""
        return self.names.coverage(digest)

    def uncovered(self, coverage: Coverage) -> list[str]:
        """The tables whose changes the stream does not carry."""
        return sorted(self.tables - coverage)


@dataclass(frozen=True, slots=True)
class Stamp:
    """The tokens a value is computed under, in the plan's order, and the lease's coverage."""

    tokens: tuple[str, ...]
    coverage: str


@dataclass(frozen=True, slots=True)
class Hit:
    """The value may be served."""

    value: Any


@dataclass(frozen=True, slots=True)
class Miss:
    """The value must be computed.

    ``coverage`` is None without a lease that holds; ``missing`` are the tokens to make. ``stamp``
    is what to store the value with, None if a token or the lease is missing.
    """

    coverage: str | None
    missing: tuple[str, ...]
    stamp: Stamp | None


Judgement: TypeAlias = Hit | Miss


def judge(plan: Plan, found: Mapping[str, Any]) -> Judgement:
    """Whether an answer to ``plan.asked()`` lets the entry be served."""
    lease = Lease.held(plan.names, found)
    tokens = tuple(map(found.get, plan.tokens))
    missing = [
        key for key, token in zip(plan.tokens, tokens, strict=True) if not isinstance(token, str)
    ]
    if lease is None or missing:
        return Miss(None if lease is None else lease.coverage, tuple(missing), None)
    entry = found.get(plan.entry)
    if (
        isinstance(entry, (tuple, list))
        and len(entry) == 4
        and entry[0] == _FORMAT
        and tuple(entry[1]) == tokens
        and entry[2] == lease.coverage
    ):
        return Hit(entry[3])
    return Miss(lease.coverage, (), Stamp(cast("tuple[str, ...]", tokens), lease.coverage))


def pack(stamp: Stamp, value: Any) -> tuple[str, tuple[str, ...], str, Any]:
    """A value as it is stored: of plain types, for caches that do not pickle."""
    return _FORMAT, stamp.tokens, stamp.coverage, value


def new_token() -> str:
    """A random value that is never made twice."""
    return secrets.token_hex(12)
