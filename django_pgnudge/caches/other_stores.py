"""The caches that are not Redis: local memory, a database table, memcached, anything else."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.core.cache.backends.base import InvalidCacheKey
from django.db import connections, router

from django_pgnudge.caches.store import EnumeratingStore, Store
from django_pgnudge.caches.value_store import ValueStore
from django_pgnudge.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper


class LocMemStore(EnumeratingStore):
    """Local memory: of use only where the daemon runs inside the process that reads (tests)."""

    def delete_keys(self, keys: Iterable[str], version: int | None) -> int:
        return self.delete_stored([self.cache.make_key(key, version=version) for key in keys])

    def places(self) -> frozenset[Hashable]:
        return frozenset({("memory", id(self.cache._cache))})  # noqa: SLF001 - shared by its name

    def stored_keys(self, head: str) -> Iterator[str]:
        with self.cache._lock:  # noqa: SLF001 - the backend offers no way to list keys
            return iter([key for key in self.cache._cache if key.startswith(head)])  # noqa: SLF001

    def delete_stored(self, keys: list[str]) -> int:
        with self.cache._lock:  # noqa: SLF001
            return sum(self.cache._delete(key) for key in keys)  # noqa: SLF001


class DatabaseValueStore(ValueStore):
    """Nudged values in Django's cache table; a PostgreSQL tells the time for all its clients."""

    def __init__(self, store: DatabaseStore) -> None:
        super().__init__(store)
        self._database = store
        self.one_clock = store.connection().vendor == "postgresql"

    @property
    def connection(self) -> BaseDatabaseWrapper:
        return self._database.connection()

    def now(self, lease: str) -> float:
        if not self.one_clock:
            return super().now(lease)
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT extract(epoch FROM pg_catalog.clock_timestamp())::pg_catalog.float8"
            )
            (seconds,) = cursor.fetchone()
        return float(seconds)


class DatabaseStore(EnumeratingStore):
    """Django's cache table.

    Its rows are found by LIKE and judged here, as LIKE minds no case on some databases.
    """

    def connection(self) -> BaseDatabaseWrapper:
        """To the database that has the table."""
        return connections[router.db_for_write(self.cache.cache_model_class)]

    @property
    def address(self) -> str:
        return f"table {self.cache._table}"  # noqa: SLF001

    def delete_keys(self, keys: Iterable[str], version: int | None) -> int:
        # PostgreSQL has no NUL in text, so no row can have it, and asking would be an error.
        stored = [self.cache.make_key(key, version=version) for key in keys if "\0" not in key]
        return sum(
            self.delete_stored(stored[start : start + 500]) for start in range(0, len(stored), 500)
        )

    def places(self) -> frozenset[Hashable]:
        server = connections[router.db_for_write(self.cache.cache_model_class)].settings_dict
        names = tuple(str(server.get(name) or "") for name in ("ENGINE", "HOST", "PORT", "NAME"))
        return frozenset({(*names, self.cache._table)})  # noqa: SLF001

    def stored_keys(self, head: str) -> Iterator[str]:
        like = head.replace("!", "!!").replace("%", "!%").replace("_", "!_") + "%"
        return (
            key
            for (key,) in self._execute("SELECT {key} FROM {table} WHERE {key} LIKE %s ESCAPE '!'",
                                        [like])[0]
        )  # fmt: skip

    def delete_stored(self, keys: list[str]) -> int:
        if not keys:
            return 0
        marks = ", ".join(["%s"] * len(keys))
        return self._execute("DELETE FROM {table} WHERE {key} IN ({marks})", keys, marks)[1]

    def _execute(
        self, sql: str, params: list[str], marks: str = ""
    ) -> tuple[list[tuple[str]], int]:
        connection = self.connection()
        quote = connection.ops.quote_name
        table = quote(self.cache._table)  # noqa: SLF001
        sql = sql.format(table=table, key=quote("cache_key"), marks=marks)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, params)
                return (cursor.fetchall() if cursor.description else []), cursor.rowcount
        finally:
            # A worker thread has no request to end, and a broken connection must not outlive its
            # error.
            connection.close_if_unusable_or_obsolete()


class MemcachedStore(Store):
    """memcached, through any of Django's backends for it."""

    def places(self) -> frozenset[Hashable]:
        servers = map(str, self.cache._servers)  # noqa: SLF001 - LOCATION, taken apart
        return frozenset(("memcached", _resolved(server)) for server in servers)


def _resolved(server: str) -> str:
    """The server by its address: memcached has no name for itself to tell."""
    host, _, port = server.rpartition(":")
    try:
        return f"{socket.gethostbyname(host)}:{port}"
    except OSError:
        return server


class PymemcacheStore(MemcachedStore):
    """memcached through pymemcache, with a client of our own.

    The site's client may be told to ignore failures (``ignore_exc``), not to wait for answers
    (``default_noreply``), and answers "not found" for a server it has seen fail a moment ago.
    """

    _own: Any = None

    @property
    def address(self) -> str:
        return f"memcached {', '.join(map(str, self.cache.client_servers))}"

    def _client(self) -> Any:
        if self._own is None:
            options = {
                **self.cache._options,  # noqa: SLF001 - the same servers and hashing
                "ignore_exc": False,
                "default_noreply": False,
                "retry_attempts": 0,
            }
            self._own = self.cache._class(self.cache.client_servers, **options)  # noqa: SLF001
        return self._own

    def delete_keys(self, keys: Iterable[str], version: int | None) -> int:
        from pymemcache.exceptions import MemcacheIllegalInputError  # noqa: PLC0415

        stored = []
        for key in keys:
            try:
                stored.append(self.cache.make_and_validate_key(key, version=version))
            except InvalidCacheKey:
                continue  # memcached cannot hold it, so there is nothing to delete.
        client = self._client()
        count = 0
        try:
            for key in stored:
                # What pymemcache refuses (it counts bytes, Django letters) was never stored.
                with suppress(MemcacheIllegalInputError):
                    count += client.delete(key)
            return count
        except BaseException:
            # The client remembers the failed server and would send its keys to another one.
            self._own = None
            raise

    def clear(self) -> None:
        client = self._client()
        try:
            client.flush_all()
        except BaseException:
            self._own = None
            raise


class PatternStore(Store):
    """A third party's backend with a ``delete_pattern`` in django-redis's manner."""

    patterns = True

    enumerates = True
    spares = False

    def count_matching(self, glob: str, version: int | None, spared: str | None = None) -> int:
        raise UnsupportedError("delete_pattern() does not count without deleting")

    def delete_patterns(self, patterns: Iterable[str], version: int | None) -> int:
        counts = [self.cache.delete_pattern(glob, version=version) for glob in patterns]
        return sum(count or 0 for count in counts)

    def clear_version(self, version: int | None, spared: str | None = None) -> int:
        if spared:
            return super().clear_version(version, spared)
        return self.delete_patterns(["*"], version)
