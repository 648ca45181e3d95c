"""What is stored beside the tokens, and whether the answer of a cache may be served.

Pure: a reader asks the cache one question (``Plan.question``), and `judge` reads the answer.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from django_pgnudge.caches import Answer, Question
from django_pgnudge.reader.keys import Lease

if TYPE_CHECKING:
    from django_pgnudge.reader.keys import Coverage, Dependency, Names

_TOKEN = re.compile(r"[0-9a-f]{24}")

MOST_TOKENS: Final = 2000
"""A value with more tokens is not stored, since each read would ask for all of them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The keys of one value.

    ``tokens`` are those to take before the value is computed. ``required`` are those of them that
    an entry must name to be served: all of the declared dependencies. ``tables`` are the payloads
    that the stream must cover for these; own nudges, which have no schema, are in every stream.
    """

    names: Names
    entry: str
    lock: str
    tokens: tuple[str, ...]
    tables: frozenset[str]
    lasting: frozenset[str]
    required: tuple[str, ...]
    question: Question = field(init=False, compare=False, repr=False)
    read: tuple[Mapping[str, str], Lease, Stamp, str, bool] | None = field(
        default=None, init=False, compare=False, repr=False
    )
    """The texts of the last answer, and what they say: mostly the next answer is the same."""

    def __post_init__(self) -> None:
        question = Question(self.names.lease, self.entry, self.tokens)
        object.__setattr__(self, "question", question)

    @classmethod
    def of(
        cls,
        names: Names,
        entry: str,
        dependencies: frozenset[Dependency],
        assumed: frozenset[str] = frozenset(),
    ) -> Plan:
        """The plan of a value under the cache key ``entry``.

        ``assumed`` are payloads that computing it may read besides.
        """
        tokens = {token for each in dependencies for token in names.tokens(each)}
        rows = {names.tokens(each)[-1] for each in dependencies if each.row is not None}
        required = tuple(sorted(tokens))
        tokens |= {names.table(payload) for payload in assumed}
        return cls(
            names=names,
            entry=entry,
            lock=f"{entry}:lock",
            tokens=tuple(sorted(tokens)),
            tables=frozenset(each.payload for each in dependencies if "." in each.payload),
            lasting=frozenset(tokens - rows),
            required=required,
        )

    def ask_for(self, tokens: Iterable[str]) -> None:
        """Ask for these tokens from here on: an entry was found that depends on them.

        They replace those of the last call: a value that depends on others each time must not ask
        for more and more.
        """
        more = sorted(set(tokens).difference(self.required))
        question = Question(self.names.lease, self.entry, (*self.required, *more))
        object.__setattr__(self, "question", question)

    def ask_for_all(self) -> Question:
        """Ask for every token that computing the value needs."""
        if self.question.tokens != self.tokens:
            question = Question(self.names.lease, self.entry, self.tokens)
            object.__setattr__(self, "question", question)
        return self.question

    def coverage_key(self, digest: str) -> str:
        """Where the payloads that a stream carries are listed."""
        return self.names.coverage(digest)

    def uncovered(self, coverage: Coverage) -> list[str]:
        """The tables whose changes the stream does not carry."""
        return sorted(self.tables - coverage)


class Stamp(NamedTuple):
    """What a value is computed under: the lease's epoch and coverage, and tokens by key."""

    epoch: str
    coverage: str
    tokens: Mapping[str, str]

    def text(self) -> str:
        """As an entry names it."""
        tokens = self.tokens
        pairs = [f"{key}={tokens[key]}" for key in sorted(tokens)]
        return " ".join((self.epoch, self.coverage, *pairs))

    def with_others(self, others: Iterable[Stamp]) -> Stamp | None:
        """This and others in one; None if they contradict each other."""
        tokens = dict(self.tokens)
        for other in others:
            if (other.epoch, other.coverage) != (self.epoch, self.coverage):
                return None
            for key, token in other.tokens.items():
                if tokens.setdefault(key, token) != token:
                    return None
        return None if len(tokens) > MOST_TOKENS else Stamp(self.epoch, self.coverage, tokens)


class Hit(NamedTuple):
    """The value may be served; ``stamp`` proves it."""

    value: Any
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Miss:
    """The value must be computed.

    ``lease`` is None without one that holds, and ``why`` then says what there is instead.
    ``missing`` are the tokens to make; ``foreign`` are those of them whose keys have somebody
    else's bytes. ``stamp`` is what to store the value with; None if a token or the lease is
    missing. ``more`` are tokens that the entry depends on and that were not asked for.
    """

    lease: Lease | None
    missing: tuple[str, ...] = ()
    stamp: Stamp | None = None
    foreign: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    why: str = ""


Judgement: TypeAlias = Hit | Miss

Believes: TypeAlias = Callable[[Lease, float, bool], bool]
"""Called with a lease, the time, and whether that is by one clock for all; see `lease_clock`."""

NO_ANSWER: Final = "the cache does not answer"
NO_LEASE: Final = "there is no lease"
ENDED: Final = "the lease has ended"
UNREADABLE: Final = "there is something under the lease's key that is no lease"
NOT_BELIEVED: Final = "the lease cannot be believed by this clock"


def judge(plan: Plan, answer: object, believes: Believes, may_hit: bool = True) -> Judgement:
    """Whether an answer to ``plan.question`` lets the entry be served.

    ``believes`` says whether a lease that is not over counts. ``answer`` is no `Answer` if the
    cache gave none, or if it may not be asked.
    """
    if not isinstance(answer, Answer):
        return Miss(None, why=NO_ANSWER)
    texts = answer.texts
    read = plan.read
    if read is None or read[0] is not texts:
        text = texts.get(plan.names.lease)
        lease = None if text is None else Lease.parse(text)
        if lease is None:
            absent = text is None and plan.names.lease not in answer.foreign
            return Miss(None, why=NO_LEASE if absent else UNREADABLE)
        found = {key: texts[key] for key in plan.question.tokens if key in texts}
        stamp = Stamp(lease.epoch, lease.coverage, found)
        # Two plans may share an entry, as those of before and after a deploy do. An entry that was
        # stored without one of this plan's tokens does not show that this token has changed.
        read = texts, lease, stamp, stamp.text(), found.keys() >= set(plan.required)
        object.__setattr__(plan, "read", read)
    _, lease, stamp, stamped, is_whole = read
    if answer.now - lease.proven > lease.length:
        return Miss(None, why=ENDED)
    if not believes(lease, answer.now, answer.one_clock):
        return Miss(None, why=NOT_BELIEVED)
    tokens, entry = stamp.tokens, answer.entry
    if may_hit and is_whole and entry is not None and entry.stamp == stamped:
        try:
            return Hit(entry.load(), stamp)
        except Exception:  # noqa: S110 - of a class that has gone with a deploy, say
            pass
    more: tuple[str, ...] = ()
    if may_hit and entry is not None and entry.stamp != stamped:
        named = _named(plan, stamp, entry.stamp)
        if named is not None:
            more = tuple(named)
            if named.keys() <= tokens.keys():
                # Everything that it depends on has been asked for, and more.
                plan.ask_for(named)
                try:
                    return Hit(entry.load(), Stamp(lease.epoch, lease.coverage, named))
                except Exception:
                    more = ()
    missing = tuple([key for key in plan.tokens if not _is_token(tokens.get(key))])
    if missing:
        foreign = tuple([key for key in missing if key in tokens or key in answer.foreign])
        return Miss(lease, missing, foreign=foreign, more=more)
    own = Stamp(lease.epoch, lease.coverage, {key: tokens[key] for key in plan.tokens})
    return Miss(lease, stamp=own, more=more)


def _named(plan: Plan, found: Stamp, text: str) -> dict[str, str] | None:
    """The tokens that an entry names; None if one of them is over, or if one is lacking."""
    words = text.split(" ")
    if words[:2] != [found.epoch, found.coverage]:
        return None
    named = dict(pair.split("=", 1) for pair in words[2:] if "=" in pair)
    if not named.keys() >= set(plan.required):
        return None
    asked = set(plan.question.tokens)
    if any(found.tokens.get(key) != token for key, token in named.items() if key in asked):
        return None
    return named


def new_token() -> str:
    """A random value that is never made twice."""
    return secrets.token_hex(12)


def _is_token(text: str | None) -> bool:
    return text is not None and _TOKEN.fullmatch(text) is not None
