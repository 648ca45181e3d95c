"""Doing what the protocol asks: with the caller's thread, or with the caller's event loop.

A cache that fails is as good as none: the function is called, and the failure logged.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.memcached import BaseMemcachedCache

from django_pgnudge.caches.asking import Question, ask
from django_pgnudge.fresh.bypass import in_cache_transaction, may_keep, may_use_cache
from django_pgnudge.fresh.entries import LEASE_KEYS
from django_pgnudge.fresh.flights import Flights
from django_pgnudge.fresh.reading import Steps
from django_pgnudge.fresh.scope import Scope, on_loop
from django_pgnudge.fresh.seldom import seldom
from django_pgnudge.fresh.steps import (
    Add,
    Begin,
    Compute,
    Delete,
    GetMany,
    Join,
    Set,
    Sleep,
    Step,
)
from django_pgnudge.fresh.watching import Seen, unwatched, watching

__all__ = ["Place", "alook", "arun", "flights", "lifetime", "look", "on_loop", "perform_one", "run"]

logger = logging.getLogger("django_pgnudge.nudged")

flights: Final = Flights()
os.register_at_fork(after_in_child=flights.reset_after_fork)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lives: a cache alias, its database and scope, and its name for logs."""

    alias: str
    using: str
    what: str
    scope: Scope = None


def look(place: Place, keys: list[str]) -> Mapping[str, Any] | None:
    """The answer to ``Begin``, in this thread."""
    if not may_use_cache(place.using, place.scope):
        return None
    try:
        cache = caches[place.alias]
        return None if in_cache_transaction(cache) else _get_many(cache, keys)
    except Exception as error:
        _complain(place, Begin(keys), error)
    return None


async def alook(place: Place, keys: list[str]) -> Mapping[str, Any] | None:
    """The same for a task."""
    found: Mapping[str, Any] | None = await _atouch(place, Begin(keys))
    return found


def run(steps: Steps, place: Place, compute: Callable[[], Any]) -> Any:
    """Drive the protocol in this thread."""
    seen = Seen(place.using, place.scope)

    def perform(step: Step) -> Any:
        match step:
            case Compute():
                with watching(seen):
                    return compute()
            case Sleep():
                time.sleep(step.seconds)
                return None
            case Join():
                try:
                    step.flight.landed.result(step.timeout)
                except TimeoutError:
                    return False
                return True
        return _touch(place, step, seen)

    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = steps.throw(error) if error is not None else steps.send(answer)
        except StopIteration as end:
            return end.value
        answer, error = None, None
        try:
            answer = perform(step)
        except BaseException as exc:
            error = exc


async def arun(steps: Steps, place: Place, compute: Callable[[], Awaitable[Any]]) -> Any:
    """Drive the protocol as a task; the cache is asked by its own coroutines where it has any."""
    seen = Seen(place.using, place.scope)

    async def perform(step: Step) -> Any:
        match step:
            case Compute():
                with watching(seen):
                    return await compute()
            case Sleep():
                await asyncio.sleep(step.seconds)
                return None
            case Join():
                landed = asyncio.wrap_future(step.flight.landed)
                done, _ = await asyncio.wait({landed}, timeout=step.timeout)
                return bool(done)
        return await _atouch(place, step, seen)

    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            step = steps.throw(error) if error is not None else steps.send(answer)
        except StopIteration as end:
            return end.value
        answer, error = None, None
        try:
            answer = await perform(step)
        except BaseException as exc:
            error = exc


def _touch(place: Place, step: Step, seen: Seen | None = None) -> Any:
    """One request to the cache; None if it fails. ``seen`` is what the value to keep came from."""
    if isinstance(step, Begin):
        return look(place, step.keys)
    if isinstance(step, Set) and not may_keep(_or_unseen(place, seen), place.what):
        return None
    try:
        cache = caches[place.alias]
        if isinstance(step, Set) and in_cache_transaction(cache):
            return None
        with unwatched():
            match step:
                case GetMany():
                    return _get_many(cache, step.keys)
                case Add():
                    return bool(cache.add(step.key, step.value, step.timeout))
                case Set():
                    cache.set(step.key, step.value, step.timeout)
                case Delete():
                    cache.delete(step.key)
    except Exception as error:
        _complain(place, step, error)
    return None


def _or_unseen(place: Place, seen: Seen | None) -> Seen:
    return Seen(place.using, place.scope) if seen is None else seen


async def _atouch(place: Place, step: Step, seen: Seen | None = None) -> Any:
    """The same for a task.

    Django's own ``aget_many`` asks for key after key, each in a thread; so unless the backend has
    one of its own, the thread that Django would use is asked once.
    """
    cache = caches[place.alias]
    method = _ASYNC.get(type(step))
    if method is None or getattr(type(cache), method) is getattr(BaseCache, method):
        return await sync_to_async(_touch)(place, step, seen)
    if isinstance(step, Begin) and not await sync_to_async(may_use_cache)(place.using, place.scope):
        return None
    if isinstance(step, Set) and not await sync_to_async(may_keep)(
        _or_unseen(place, seen), place.what
    ):
        return None
    try:
        match step:
            case Begin() | GetMany():
                return _mapping(await cache.aget_many(step.keys))
            case Add():
                return bool(await cache.aadd(step.key, step.value, step.timeout))
            case Set():
                await cache.aset(step.key, step.value, step.timeout)
            case Delete():
                await cache.adelete(step.key)
    except Exception as error:
        _complain(place, step, error)
    return None


_ASYNC: Final[Mapping[type, str]] = {
    Begin: "aget_many",
    GetMany: "aget_many",
    Add: "aadd",
    Set: "aset",
    Delete: "adelete",
}


def _get_many(cache: BaseCache, keys: list[str]) -> Mapping[str, Any] | None:
    """All at once; several memcached servers answer in any order, so they are asked twice."""
    if isinstance(keys, Question) and (found := ask(cache, keys)) is not None:
        return found
    if isinstance(cache, DatabaseCache):
        with unwatched():
            return _mapping(cache.get_many(keys))
    servers = getattr(cache, "_servers", ())
    if len(servers) > 1 and isinstance(cache, BaseMemcachedCache):
        first, rest = keys[:LEASE_KEYS], keys[LEASE_KEYS:]
        return {**cache.get_many(first), **(cache.get_many(rest) if rest else {})}
    return _mapping(cache.get_many(keys))


def _mapping(found: Any) -> Mapping[str, Any] | None:
    """django-redis told to ignore exceptions answers None for a Redis that is down."""
    return found if isinstance(found, Mapping) else None


def _complain(place: Place, step: Step, error: Exception) -> None:
    if isinstance(step, Set) and (reason := _unstorable(step.value)) is not None:
        if seldom(f"unstorable {place.what}"):
            logger.warning(
                "%s returned a value that cannot be cached, and is called each time: %s."
                " Return plain data, for example a list instead of a generator.",
                place.what,
                reason,
            )
    elif seldom(f"broken {place.alias}"):
        logger.warning(
            "nudged: cache %r failed, so values are computed: %s: %s",
            place.alias,
            type(error).__name__,
            error,
        )


def _unstorable(value: Any) -> str | None:
    try:
        pickle.dumps(value)
    except Exception as error:  # pickling runs the value's own code
        return f"{type(error).__name__}: {error}"
    return None


def lifetime(alias: str, timeout: Any) -> float | None:
    """A timeout in seconds, as the cache would read it; None for ever."""
    if timeout is None or isinstance(timeout, int | float):
        return timeout
    default: float | None = caches[alias].default_timeout
    return default


def perform_one(step: Step, place: Place) -> Any:
    """One step outside a protocol, with the same care."""
    return _touch(place, step)
