"""How cache keys are deleted: the hop after the rules, and the only module that knows backends.

Everything here is synchronous and blocks; the daemon runs it in one thread a cache alias. Every
failure surfaces as CacheError, with the alias and the address in its message, also where the
backend was told to ignore it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from django.core.cache import caches
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.memcached import BaseMemcachedCache

from django_pgnudge.caches.client_library import is_redis
from django_pgnudge.caches.cluster_value_store import ClusterValueStore
from django_pgnudge.caches.layout import find_sessions
from django_pgnudge.caches.other_stores import (
    DatabaseStore,
    DatabaseValueStore,
    LocMemStore,
    MemcachedStore,
    PatternStore,
    PymemcacheStore,
)
from django_pgnudge.caches.redis_store import RedisStore
from django_pgnudge.caches.redis_value_store import RedisValueStore
from django_pgnudge.caches.rounds import (
    ClearVersion,
    DeleteKeys,
    Done,
    EndTokens,
    Pipeline,
    RaiseMark,
    Refusal,
    Round,
)
from django_pgnudge.caches.store import Store
from django_pgnudge.caches.value_store import Answer, Entry, Mark, Question, ValueStore
from django_pgnudge.errors import CacheError, PgNudgeError, UnsupportedError
from django_pgnudge.tenancy import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.core.cache.backends.base import BaseCache

    from django_pgnudge.rules import CacheRef, Deletes

__all__ = [
    "Answer",
    "Done",
    "Entry",
    "Mark",
    "Question",
    "Refusal",
    "Round",
    "ValueStore",
    "address",
    "can_enumerate",
    "clear",
    "clear_version",
    "count",
    "count_all",
    "delete",
    "delete_stored",
    "incarnation",
    "pipeline",
    "run",
    "same_place",
    "supports_patterns",
    "values",
    "writing_value_store",
]


def delete(ref: CacheRef, deletes: Deletes) -> int:
    """Delete keys and patterns of one version of one cache; how many keys there were.

    Raises UnsupportedError for patterns on a backend without them, after the keys are deleted.
    """
    keys, patterns = filter(_is_text, deletes.keys), set(filter(_is_text, deletes.patterns))
    with _store(ref.alias) as store, serving(ref.tenant):
        count = store.delete_keys(keys, ref.version)
        if patterns:
            count += store.delete_patterns(patterns, ref.version)
        return count


def clear_version(ref: CacheRef) -> int:
    """Delete all of one version under the cache's KEY_PREFIX, except sessions.

    Raises UnsupportedError where the backend cannot list its keys (memcached, files), or cannot
    tell those of sessions from others.
    """
    with _store(ref.alias) as store, serving(ref.tenant):
        return store.clear_version(ref.version, _spared(store, ref.version))


def run(alias: str, round: Round) -> Done:  # noqa: A002
    """Run a round step by step; may be repeated after an error.

    What the backend cannot do is among the refusals, and the other steps are taken all the same.
    """
    deleted, marked = 0, True
    refusals: list[Refusal] = []
    for step in round.steps():
        match step:
            case EndTokens(tokens):
                with writing_value_store(alias) as values:
                    values.delete(tokens)
            case DeleteKeys(ref, deletes):
                try:
                    deleted += delete(ref, deletes)
                except UnsupportedError as exc:
                    refusals.append(Refusal(ref, exc))
            case ClearVersion(ref):
                try:
                    deleted += clear_version(ref)
                except UnsupportedError as exc:
                    refusals.append(Refusal(ref, exc, whole_version=True))
            case RaiseMark(mark, tokens):
                with writing_value_store(alias) as values:
                    marked = values.witness(mark, tokens).marked
    return Done(deleted, marked, tuple(refusals))


def count(ref: CacheRef, deletes: Deletes) -> int | None:
    """How many keys `delete`, or `clear_version` for ``whole``, would delete.

    None where the backend cannot tell. Keys that two patterns match are counted twice.
    """
    with _store(ref.alias) as store:
        patterns = {"*"} if deletes.whole else deletes.patterns
        if patterns and not (store.enumerates and _has_layout(store)):
            return None
        found = (
            0 if deletes.whole else store.count_keys(filter(_is_text, deletes.keys), ref.version)
        )
        try:
            spared = _spared(store, ref.version) if deletes.whole else None
            return found + sum(store.count_matching(each, ref.version, spared) for each in patterns)
        except UnsupportedError:
            return None


def count_all(alias: str) -> int | None:
    """How many keys `clear` would delete, None where the backend cannot tell."""
    with _store(alias) as store:
        return store.size()


def clear(alias: str) -> None:
    """``cache.clear()``: FLUSHDB on Redis. For ``PGNUDGE["RESYNC"] = "clear"`` only."""
    with _store(alias) as store:
        store.clear()


def delete_stored(alias: str, cache: BaseCache, head: str) -> None:
    """Delete every stored key that begins so, where keys can be listed, and let go of the cache's
    own connections: after a test."""
    store = _store_class(cache)(alias, cache)
    try:
        if store.enumerates:
            store.delete_beginning(head)
    finally:
        store.let_go()


def pipeline(alias: str) -> Pipeline | None:
    """A connection for rounds of deletes in one write each; None if there can be none."""
    with _store(alias) as store:
        if not isinstance(store, RedisStore):
            return None
        connection = store.connection_of_its_own()
        return None if connection is None else Pipeline(store, connection)


def values(alias: str) -> ValueStore:
    """The nudged values in a cache, for this thread. Their failures are raised as they come."""
    cache = caches[alias]
    found: ValueStore | None = cache.__dict__.get("_pgnudge_values")
    if found is None:
        found = cache.__dict__["_pgnudge_values"] = _value_store(_wrap(alias, cache))
    return found


@contextmanager
def writing_value_store(alias: str) -> Iterator[ValueStore]:
    """The same for the daemon: failures are CacheErrors."""
    with _store(alias):
        yield values(alias)


def supports_patterns(alias: str) -> bool:
    """Whether keys of this cache can be deleted by glob."""
    with _store(alias) as store:
        return store.patterns and _has_layout(store)


def can_enumerate(alias: str) -> bool:
    """Whether one version of this cache can be cleared without touching anything else."""
    with _store(alias) as store:
        return store.enumerates and _has_layout(store) and _can_spare(store)


def same_place(first: str, second: str) -> bool:
    """Whether clearing one cache empties the other; asks their servers."""
    with _store(first) as one:
        places = one.places()
    with _store(second) as two:
        return not places.isdisjoint(two.places())


def incarnation(alias: str) -> str | None:
    """The server's run, None if the backend tells none: another one means another memory."""
    with _store(alias) as store:
        return store.incarnation()


def address(alias: str) -> str:
    """Where the cache is, for log lines."""
    with _store(alias) as store:
        return store.address


def _is_text(key: str) -> bool:
    """Whether a key can be sent to a server at all, and so have been stored there.

    One that cannot, as it holds half a surrogate pair, must not keep the others alive.
    """
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


def _has_layout(store: Store) -> bool:
    try:
        store.layout(None)
    except UnsupportedError:
        return False
    return True


def _spared(store: Store, version: int | None) -> str | None:
    """How stored keys begin that a clearing of one version must leave, if there are any."""
    if not store.enumerates:
        return None
    sessions, layout = find_sessions(), store.layout(version)
    if sessions is None or not sessions.may_be_in(layout):
        return None
    if store.spares and sessions.can_be_spared_in(layout):
        return sessions.head
    if not same_place(store.alias, sessions.alias):
        return None
    msg = (
        f"Cache {store.alias!r} ({store.address}) holds sessions, too (SESSION_ENGINE, cache "
        f"{sessions.alias!r}), and sessions cannot be told from other keys of a version there, so "
        "it is not cleared: give the cache of sessions a KEY_PREFIX and no KEY_FUNCTION, "
        'or a place of its own, or set PGNUDGE["RESYNC"] to "keys".'
    )
    raise UnsupportedError(msg)


def _can_spare(store: Store) -> bool:
    try:
        _spared(store, None)
    except UnsupportedError:
        return False
    return True


@contextmanager
def _store(alias: str) -> Iterator[Store]:
    store: Store | None = None
    try:
        store = _wrap(alias, caches[alias])
        yield store
    except PgNudgeError:
        raise
    except Exception as exc:
        where = f" ({store.address})" if store else ""
        cause = exc.__cause__ if type(exc).__name__ == "ConnectionInterrupted" else exc
        msg = f"Cache {alias!r}{where} failed: {type(cause).__name__}: {cause}"
        raise CacheError(msg) from exc


def _wrap(alias: str, cache: BaseCache) -> Store:
    # Kept on the cache object: it lives exactly as long, and both belong to one thread.
    store: Store | None = cache.__dict__.get("_pgnudge_store")
    if store is None:
        store = _store_class(cache)(alias, cache, attached=True)
        cache.__dict__["_pgnudge_store"] = store
    return store


def _value_store(store: Store) -> ValueStore:
    match store:
        case RedisStore():
            return ClusterValueStore(store) if store.is_cluster else RedisValueStore(store)
        case DatabaseStore():
            return DatabaseValueStore(store)
    return ValueStore(store)


def _store_class(cache: BaseCache) -> type[Store]:
    if is_redis(cache):
        return RedisStore
    if isinstance(cache, LocMemCache):
        return LocMemStore
    if isinstance(cache, DatabaseCache):
        return DatabaseStore
    if any(base.__name__ == "PyMemcacheCache" for base in type(cache).__mro__):
        return PymemcacheStore
    if isinstance(cache, BaseMemcachedCache):
        return MemcachedStore
    if callable(getattr(cache, "delete_pattern", None)):
        return PatternStore
    return Store
