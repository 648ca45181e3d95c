"""Several keys of one Redis for the price of one: what a hit of a nudged value costs.

``get_many`` of the backends makes each key, packs each, goes through the client's layers and reads
each value anew. Here a question that is put again and again is packed once, and of its answer only
what is not known by its bytes is read. Whatever is not quite usual (a client of another class, a
method that somebody has wrapped to watch it) is left to ``get_many``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from django_pgnudge.caches.redis import is_django_redis, is_redis

if TYPE_CHECKING:
    from django.core.cache.backends.base import BaseCache

__all__ = ["Question", "ask"]

KNOWN: Final = 1000
"""Answers remembered by their bytes in one cache object: tokens, grants, leases."""

Layout = tuple[Any, ...]


class Question(list[str]):
    """Keys that are asked for together, often; the value under ``single`` is always read anew."""

    __slots__ = ("packed", "single")

    def __init__(self, keys: Iterable[str], single: str) -> None:
        super().__init__(keys)
        self.single = self.index(single)
        self.packed: tuple[Layout, list[bytes]] | None = None
        """The command, and what made the stored keys of these."""


def ask(cache: BaseCache, question: Question) -> dict[str, Any] | None:
    """The values there are; None if ``get_many`` is to be asked."""
    asker: Asker | None = cache.__dict__.get("_pgnudge_asker")
    if asker is None:
        if not is_redis(cache):
            return None
        asker = cache.__dict__["_pgnudge_asker"] = Asker(cache)
    return asker.ask(question)


class Asker:
    """Asks through the connections of one cache object."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache
        self._known: dict[bytes, Any] = {}
        self._get_many = type(cache).get_many
        self._usual = _is_usual(cache)
        if self._usual:
            from redis import Redis  # noqa: PLC0415
            from redis.exceptions import RedisError, TimeoutError  # noqa: A004, PLC0415

            self._class = Redis
            self._execute = Redis.execute_command
            self._errors, self._timeout = RedisError, TimeoutError
            self._read: Callable[[bytes], Any]
            if is_django_redis(cache):
                self._make_key, self._read = cache.client.make_key, cache.client.decode
            else:
                self._make_key = cache.make_and_validate_key
                self._read = cache._cache._serializer.loads  # noqa: SLF001

    def ask(self, question: Question) -> dict[str, Any] | None:
        """As ``ask``."""
        cache = self._cache
        if (
            not self._usual
            or type(cache).get_many is not self._get_many
            or self._class.execute_command is not self._execute
        ):
            return None
        layout = (cache.key_func, cache.key_prefix, cache.version)
        packed = question.packed
        if packed is None or packed[0] != layout:
            packed = question.packed = (layout, _pack(map(self._make_key, question)))
        try:
            answers = self._exchange(packed[1])
        except self._timeout:
            raise  # Asking again would take as long.
        except self._errors:
            return None
        if answers is None:
            return None
        return self._values(question, answers)

    def _pool(self) -> Any:
        cache = self._cache
        if is_django_redis(cache):
            client = cache.client.get_client(write=False)
            # A class of its own may do anything, and a client of one connection locks it.
            usual = type(client) is self._class and client.connection is None
            return client.connection_pool if usual else None
        return cache._cache._get_connection_pool(write=False)  # noqa: SLF001

    def _exchange(self, packed: list[bytes]) -> list[bytes | None] | None:
        pool = self._pool()
        if pool is None:
            return None
        connection = pool.get_connection()
        try:
            encoder = connection.encoder
            if encoder.decode_responses or encoder.encoding != "utf-8":
                return None
            connection.send_packed_command(packed)
            answers: list[bytes | None] = connection.read_response()
        except BaseException:
            # Half a question or half an answer must not be the next one's.
            connection.disconnect()
            raise
        finally:
            pool.release(connection)
        return answers

    def _values(self, question: Question, answers: list[bytes | None]) -> dict[str, Any]:
        known, read, single = self._known, self._read, question.single
        found = {}
        for at, (key, answer) in enumerate(zip(question, answers, strict=True)):
            if answer is None:
                continue
            if at == single:
                found[key] = read(answer)
                continue
            value = known.get(answer)
            if value is None:
                if len(known) >= KNOWN:
                    known.clear()
                value = known[answer] = read(answer)
            found[key] = value
        return found


def _is_usual(cache: Any) -> bool:
    """Whether every method passed by is the one it was written for."""
    try:
        from redis import Redis, __version__  # noqa: PLC0415

        if tuple(map(int, __version__.split(".")[:2])) < (5, 3):
            return False  # Its pool wants to know the command.
        parts: list[tuple[Any, str]] = [(type(cache), "get_many"), (Redis, "execute_command")]
        if is_django_redis(cache):
            parts += [(type(cache.client), name) for name in ("get_many", "decode", "make_key")]
            return all(_is_its_own(*part, "django_redis", "redis") for part in parts)
        client = cache._cache  # noqa: SLF001
        parts += [(type(client), name) for name in ("get_many", "_get_connection_pool")]
        return client._client is Redis and all(  # noqa: SLF001
            _is_its_own(*part, "django", "redis") for part in parts
        )
    except (AttributeError, ValueError):
        return False


def _is_its_own(owner: Any, name: str, *packages: str) -> bool:
    """Whether a method is the package's, neither overridden nor wrapped by another's code."""
    method = inspect.getattr_static(owner, name)
    if not inspect.isfunction(method):
        return False
    module = method.__module__
    own = sys.modules[module].__file__
    return module.partition(".")[0] in packages and method.__code__.co_filename == own


def _pack(keys: Iterable[str]) -> list[bytes]:
    """MGET as it goes over the wire."""
    words = [b"MGET", *(str(key).encode() for key in keys)]
    parts = [b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)]
    return [b"".join(parts)]
