"""Where one cache keeps nudged values: their entries, the tokens they stand on, and the lease.

`ValueStore` asks for all of these at once, together with the time by the clock that judges the
lease. This base knows only Django's cache API; `redis_value_store` goes below it. Keys here do not
pass through the site's KEY_FUNCTION: one that makes a key of the tenant at hand would hide the
daemon's lease from it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.memcached import BaseMemcachedCache

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_pgnudge.caches.store import Store

MARK_TIMEOUT: Final = 86_400
"""Seconds after which the mark of a daemon that has gone goes too; each renewal puts it off."""

FORMAT: Final = "pgnudge2"
"""How an entry begins that this release has written."""


@dataclass(slots=True)
class Question:
    """The keys that a reader asks for together, often: the lease, the entry, and tokens."""

    lease: str
    entry: str
    tokens: tuple[str, ...]
    packed: tuple[object, list[bytes]] | None = field(default=None, compare=False, repr=False)
    """The command as it was last sent, and the layout of keys it was made for."""
    read: tuple[list[bytes | None], Mapping[str, str]] | None = field(
        default=None, compare=False, repr=False
    )
    """The lease and tokens as they last came, and their texts: mostly they come again."""

    def keys(self) -> list[str]:
        """The lease first: a token that is there after it was read has outlived every deletion
        the lease speaks of, also in a cache that answers key by key."""
        return [self.lease, self.entry, *self.tokens]


class Entry(NamedTuple):
    """A stored value under its ``stamp``, not read yet; ``load`` may raise anything."""

    stamp: str
    load: Callable[[], Any]


class Answer(NamedTuple):
    """What a cache says to a `Question`.

    ``texts`` has the lease and the tokens there are, by key; ``foreign`` the keys under which
    there is something that this package has not written. ``now`` is the time after all of them
    were read, in seconds, by the clock of `Values.now`; ``one_clock`` whether that is everybody's.
    """

    texts: Mapping[str, str]
    entry: Entry | None
    now: float
    one_clock: bool
    foreign: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Mark:
    """A number in a cache that every round changes, so that lost memory shows.

    ``key`` is its own, ``lease`` that of the lease beside it; ``number`` is what it must be before
    the round, ``raised`` what it is then.
    """

    key: str
    lease: str
    number: int
    raised: int


@dataclass(frozen=True, slots=True)
class Witness:
    """What a cache says of itself: the text under the lease's key, whether the mark was the number
    that was expected before it was raised, and the time by `ValueStore.now`.
    """

    lease: str | None
    marked: bool
    now: float


class ValueStore:
    """Nudged values in one cache of one thread, through Django's cache API.

    ``one_clock`` says whether every reader and daemon has the same clock here; otherwise it is
    each host's own.
    """

    one_clock = False

    def __init__(self, store: Store) -> None:
        self._store = store.plain
        if isinstance(self._cache, LocMemCache):
            self.one_clock = True

    @property
    def _cache(self) -> Any:
        return self._store.cache

    @property
    def connection(self) -> BaseDatabaseWrapper | None:
        """Of Django to the database that holds this cache; None for any other cache."""
        return None

    def refusal(self) -> str | None:
        """Why no nudged value may be kept in this cache, or None."""
        cache = self._cache
        if isinstance(cache, DummyCache):
            return "it keeps nothing"
        if isinstance(cache, BaseMemcachedCache) and len(getattr(cache, "_servers", ())) > 1:
            return (
                "its keys are spread over several memcached servers, and a client that moves the"
                " keys of a server that is away lets a value outlive its change: name one server"
            )
        return None

    def now(self, lease: str) -> float:
        """The time in seconds by the clock that judges the lease under this key."""
        return time.time()

    def ask(self, question: Question) -> Answer:
        """What there is. May be sent again by a client that retries."""
        keys = question.keys()
        try:
            found: Any = self._cache.get_many(keys)
        except Exception:
            found = self._one_by_one(keys)
        if not isinstance(found, Mapping):
            # django-redis and its like, told to ignore exceptions, answer None for a dead server.
            raise ConnectionError("the cache answered nothing")
        return self._answer(question, found)

    def make(self, question: Question, tokens: Mapping[str, tuple[str, int | None]]) -> Answer:
        """Make tokens that are missing, ask again, and have nothing of it sent twice.

        ``tokens`` are new texts and seconds to live (None for ever) by key. Where somebody else
        was first, his token stays.
        """
        for key, (text, timeout) in tokens.items():
            self._cache.add(key, text, timeout)
        return self.ask(question)

    def keep(self, key: str, stamp: str, value: Any, timeout: Any) -> None:
        """Store an entry; ``timeout`` as Django's ``cache.set`` takes it."""
        self._cache.set(key, (FORMAT, stamp, value), timeout)

    def add(self, key: str, text: str, timeout: int) -> bool:
        """Set a text unless there is one; whether it was set."""
        return bool(self._cache.add(key, text, timeout))

    def has(self, key: str) -> bool:
        """Whether there is anything under a key."""
        return self._cache.get(key) is not None

    def drop(self, keys: Iterable[str]) -> None:
        """Delete for a reader, who loses nothing by what stays."""
        self._cache.delete_many(list(keys))

    def delete(self, keys: Iterable[str]) -> None:
        """Delete for the daemon: raises what a failure is, also where the site's client ignores
        it.
        """
        self._store.delete_keys(keys, None)

    def get(self, key: str) -> Any:
        """What `set` has stored."""
        return self._cache.get(key)

    def set(self, key: str, value: Any, timeout: float | None) -> None:
        """Store plain data: a mark, a list of tables, an answer."""
        self._cache.set(key, value, timeout)

    def set_text(self, key: str, text: str, timeout: int | None = None) -> None:
        """Store a lease without any proof, for ever if no time is given: for tests."""
        self._cache.set(key, text, timeout)

    # What the daemon's proof stands on.

    def next_mark(self, number: int) -> int:
        """What a mark is raised to from ``number``."""
        return number + 1

    def witness(self, mark: Mark, ended: Collection[str] = ()) -> Witness:
        """The lease as it is, then the mark raised, then the time, with keys that are ``ended``
        deleted: in one step of the cache's own where it has one, so that no older memory comes in
        between.
        """
        text = self._cache.get(mark.lease)
        try:
            found = int(self._cache.incr(mark.key))
        except (ValueError, TypeError):
            found = None
        if ended:
            # Behind the mark: had another server come before it, that would have them still.
            self.delete(ended)
        lease = text if type(text) is str else None
        return Witness(lease, found == mark.raised, self.now(mark.lease))

    def grant(self, lease: str, text: str, seconds: int, mark: str, number: int) -> bool:
        """Write the lease if the mark is ``number``; whether it was, before and after."""
        if self._cache.get(mark) != number:
            return False
        self._cache.set(lease, text, seconds)
        if self._cache.get(mark) != number:
            self.delete([lease])
            return False
        return True

    def touch(self, key: str, seconds: int) -> None:
        """Put off a key's end."""
        self._cache.touch(key, seconds)

    # Inside.

    def _answer(self, question: Question, found: Mapping[str, Any]) -> Answer:
        texts: dict[str, str] = {}
        foreign: set[str] = set()
        entry = None
        for key, value in found.items():
            if key == question.entry:
                entry = _entry(value)
            elif type(value) is str:
                texts[key] = value
            elif value is not None:
                foreign.add(key)
        return Answer(texts, entry, self.now(question.lease), self.one_clock, frozenset(foreign))

    def _one_by_one(self, keys: list[str]) -> dict[str, Any]:
        """What is there in spite of what cannot be read: another program's bytes, a class gone.

        Raises what the first of two failures in a row is: then it is the cache that fails.
        """
        found: dict[str, Any] = {}
        failed: Exception | None = None
        for key in keys:
            try:
                value = self._cache.get(key)
            except Exception as error:
                if failed is not None:
                    raise failed from None
                failed = error
                found[key] = _UNREADABLE
            else:
                failed = None
                if value is not None:
                    found[key] = value
        return found


_UNREADABLE: Final = object()


def _entry(value: Any) -> Entry | None:
    if (
        isinstance(value, tuple | list)
        and len(value) == 3
        and value[0] == FORMAT
        and isinstance(value[1], str)
    ):
        return Entry(value[1], lambda: value[2])
    return None
