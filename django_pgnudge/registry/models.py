"""Maps tables to models: the hop between the feed's payloads and Django's names.

The registry is built from Django's app registry, so it works before any connection. Until then
``public`` is the schema of tables that name none. ``refresh`` reads from PostgreSQL where
search_path finds those tables, which tables are partitions of which, the columns of primary keys,
and the identity of the database. Only ``refresh`` and ``on_path`` use the database.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.apps import apps as global_apps
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Model

from django_pgnudge.conf import conf
from django_pgnudge.memo import Memo
from django_pgnudge.names import Own
from django_pgnudge.registry import labels
from django_pgnudge.registry.cache_tables import cache_tables
from django_pgnudge.registry.catalog import Catalog, find_on_path, payload_for, read_catalog
from django_pgnudge.registry.labels import is_meant, split_db_table
from django_pgnudge.registry.row_keys import RowKeys
from django_pgnudge.registry.selection import selection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from django.apps.registry import Apps
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Field

    from django_pgnudge.decoding import KeyColumn
    from django_pgnudge.events import Event, Key

_MOST_ASKED = 10_000  # the most names remembered as missing from the catalogs


class Registry:
    """The models of one database, by table. ``refresh`` replaces all read data in one step."""

    def __init__(self, using: str = DEFAULT_DB_ALIAS, *, apps: Apps = global_apps) -> None:
        self.using = using
        self.generation = 0
        self._apps = apps
        self._by_table: dict[tuple[str | None, str], list[type[Model]]] = {}
        for model in apps.get_models(include_auto_created=True):
            self._by_table.setdefault(split_db_table(model._meta.db_table), []).append(model)
        self._cache_tables = frozenset(map(split_db_table, cache_tables(using)))
        self._catalog = Catalog()
        self._asked: Memo[str, None] = Memo(_MOST_ASKED)
        self._everywhere: set[str] = set()
        self.former_parents: set[tuple[str, str]] = set()
        """Pairs of a table and a parent or root that it has left; see `daemon.proof`."""
        self._index()

    def refresh(self, connection: BaseDatabaseWrapper) -> None:
        """Read search_path, partitions, primary keys and the identity from the database."""
        found = read_catalog(connection, self._unqualified())
        self.former_parents |= _pairs(self._catalog.parents) - _pairs(found.parents)
        self._catalog = found
        self._index()

    def on_path(self, connection: BaseDatabaseWrapper, schemas: tuple[str, ...]) -> Registry:
        """The registry of a session whose search_path is ``schemas``.

        It shares the data of the last ``refresh``.
        """
        path, found = find_on_path(connection, self._unqualified(), schemas)
        other = copy(self)
        other._catalog = replace(self._catalog, path=path, schemas=found)  # noqa: SLF001
        other._index()  # noqa: SLF001
        return other

    def look_everywhere(self, entry: str) -> None:
        """Treat the tables of this name in every schema as tables of its model, as for tenants."""
        self._everywhere.add(entry.removeprefix("*."))
        self._index()

    @property
    def has_tenants(self) -> bool:
        """Whether the site has the tables of its models in several schemas, one for each tenant.

        True with ``SCOPE``, or with a database backend like that of django-tenants.
        """
        if conf.is_usable("NUDGED") and conf.NUDGED["SCOPE"] is not None:
            return True
        alias = self.using
        return alias in connections.settings and hasattr(connections[alias], "set_tenant")

    @property
    def path(self) -> tuple[str, ...]:
        """The effective search_path that was used to find tables."""
        return self._catalog.path

    def lacks_schemas(self) -> bool:
        """Whether search_path finds tables in a schema that had none at the last ``refresh``."""
        known = {schema for schema, _ in self._catalog.tables.values()}
        return not known.issuperset(self._catalog.schemas.values())

    def _schemas(self) -> set[str]:
        """The names that are known to be schemas."""
        return {"public", *self._catalog.path} | {named for named, _ in self._by_table if named}

    def _unqualified(self) -> list[str]:
        named = (*self._by_table, *self._cache_tables)
        return [table for schema, table in named if schema is None]

    def may_mean_more(self, payload: str) -> bool:
        """Whether a ``refresh`` may find that ``payload`` means more than is known of it.

        True for a table without model or parent, which may since have been attached as a partition.
        True once for a name that is missing from the catalogs. False for an own nudge, which has no
        dot.
        """
        if payload in self._caches:
            return False
        if "." not in payload:
            return False
        if self._models_at(payload) or self._catalog.parents.get(payload):
            return False
        if payload in self._catalog.tables:
            return True
        if payload in self._asked:
            return False
        self._asked[payload] = None
        return True

    def payload_of(self, entry: str | type[Model]) -> str:
        """The payload of a model, a model label, ``schema.table``, or an application's own nudge.

        Labels are Django's (``shop.Product``, ``shop.Product_categories`` for an automatic
        many-to-many table) and ``shop.Product.categories``. A name in double quotes
        (``'"shop"."product"'``) is never a label.

        Raises UnknownLabelError for a label that names no model. A name counts as a label if its
        first part is an app, or its second part begins with a capital letter. Also raises it for a
        name that is probably a mistake: one that resembles a label, or one without a dot that
        resembles a table or model or has capital letters. ``own()`` marks such a name as an own
        nudge.

        ``*.`` before a table or label means the table of that name in each schema; the result has
        the star too.
        """
        if not isinstance(entry, str):
            return self._model_payload(entry)
        if isinstance(entry, Own):
            return str(entry)
        model = self.model_of(entry)
        if entry.startswith("*."):
            schema, table = split_db_table(entry[2:] if model is None else model._meta.db_table)
            return f"*.{table}" if schema is None else payload_for(schema, table)
        if model is not None:
            return self._model_payload(model)
        if "*" in entry:
            return entry
        if entry.startswith('"'):
            schema, table = split_db_table(entry)
            return table if schema is None else f"{schema}.{table}"
        payload = self._payloads_by_table.get(entry)
        if payload is None and "." not in entry:
            labels.check_own(entry, self._by_table)
        return entry if payload is None else payload

    def model_of(self, entry: str) -> type[Model] | None:
        """The model of a label, or None for a table or own nudge. Raises UnknownLabelError."""
        schemas = self._schemas
        return labels.model_of(
            entry, self._apps, self._models.__contains__, lambda name: name in schemas()
        )

    def models_of(self, payload: str) -> tuple[type[Model], ...]:
        """The models that read this table, concrete ones first; also models of its parents."""
        return tuple(model for model, _ in self._read_by(payload))

    def _read_by(self, payload: str) -> list[tuple[type[Model], str]]:
        """The models that read this table, concrete ones first, each with its own table."""
        found: dict[type[Model], str] = {}
        if payload.startswith("*."):
            found = dict.fromkeys(self._by_table.get((None, payload[2:]), ()), payload)
        for table in self.lineage(payload):
            for model in self._models_at(table):
                found.setdefault(model, table)
        return sorted(found.items(), key=lambda item: item[0]._meta.proxy)

    def _models_at(self, payload: str) -> Sequence[type[Model]]:
        """The models of one table: one that search_path finds, or a known table of a tenant."""
        found = self._models.get(payload)
        if found is None and (self._is_shared or self._everywhere):
            _, table = self._catalog.tables.get(payload, ("", ""))
            if self._is_shared or table in self._everywhere:
                found = tuple(self._by_table.get((None, table), ()))
        return found or ()

    def schemas(self) -> frozenset[str]:
        """The schemas that had tables at the last refresh."""
        return frozenset(schema for schema, _ in self._catalog.tables.values())

    def tables_like(self, pattern: str) -> frozenset[str]:
        """The known tables that match a name with ``*`` for schema or table."""
        return frozenset(
            payload for payload, here in self._catalog.tables.items() if is_meant(pattern, *here)
        )

    def root_of(self, payload: str) -> str:
        """The root table of a partition; any other payload unchanged."""
        return self._catalog.roots.get(payload, payload)

    def lineage(self, payload: str) -> tuple[str, ...]:
        """The payload and every table whose queries read its rows: parents and roots."""
        return (payload, *self._catalog.parents.get(payload, ()))

    def descendants(self, payload: str) -> frozenset[str]:
        """The known partitions and inheriting tables below a table."""
        return frozenset(
            child for child, parents in self._catalog.parents.items() if payload in parents
        )

    def split(self, payload: str) -> tuple[str, str]:
        """Schema and table of a payload; an own nudge without a dot has no schema."""
        if payload in self._catalog.tables:
            return self._catalog.tables[payload]
        if payload in self._names:
            return self._names[payload]
        schema, dot, table = payload.partition(".")
        return (schema, table) if dot else ("", payload)

    def pk_fields(self, payload: str) -> tuple[Field[Any, Any], ...] | None:
        """The model fields of the primary key, in the model's order; None without a model."""
        models = self.models_of(payload)
        if not models:
            return None
        return tuple(models[0]._meta.pk_fields)  # several for a composite key

    @property
    def identity(self) -> str | None:
        """The database's identity for cache keys: digits and "-".

        It consists of the server's system identifier and the database's OID. A standby has the same
        one, also after its promotion, and so has any physical copy. It changes with pg_upgrade, a
        dump and restore, and DROP and CREATE DATABASE. None before the first ``refresh``, and if
        EXECUTE on ``pg_control_system()`` was revoked from the role.
        """
        return self._catalog.identity

    def key_columns(self, payload: str) -> tuple[KeyColumn, ...] | None:
        """The columns of the table's primary key in the database, in index order.

        None if they are unknown, or if two tables have this payload.
        """
        return self._catalog.primary_keys.get(payload)

    def pk_columns(self, payload: str) -> tuple[str, ...] | None:
        """The names of ``key_columns``."""
        return self._catalog.pk_columns(payload)

    def age(self) -> float:
        """Seconds since the last refresh."""
        return self._catalog.age()

    def tables(self) -> list[str]:
        """The payloads of the tables that the database had at the last refresh."""
        return sorted(self._catalog.tables)

    def is_table(self, payload: str) -> bool:
        """Whether it is a table of the database or of a model, and not an own nudge."""
        return payload in self._catalog.tables or payload in self._models

    def exists(self, payload: str) -> bool:
        """Whether the database had this table at the last refresh."""
        return payload in self._catalog.tables

    def seen_as(self, event: Event, payload: str) -> Event:
        """The event of a change for a table of its ``lineage``: with that table's payload and keys.

        Without keys if that table's primary key has other columns, or if it has none.
        """
        return self._row_keys.seen_as(event, payload)

    def seen_at_root(self, event: Event) -> Event:
        """The event of a partition's change for its root table."""
        return self.seen_as(event, self.root_of(event.payload))

    def seen_by_models(self, event: Event) -> Iterator[tuple[type[Model], Event]]:
        """The models of ``models_of``, each with the event for its table."""
        for model, table in self._read_by(event.payload):
            yield model, self.seen_as(event, table)

    def pk_values(self, payload: str, key: Key, table: str | None = None) -> tuple[Any, ...] | None:
        """The values of ``obj.pk`` for a row: one for each column, in the model's order.

        ``key`` is a key of ``payload``. The model is that of ``table``, which is in the ``lineage``
        of ``payload``. Without a model the key is returned unchanged. None if the model's primary
        key has other columns than the table's: then ``obj.pk`` is unknown.
        """
        return self._row_keys.values(payload, key, payload if table is None else table)

    def selected(self, payload: str) -> bool:
        """Whether ``TABLES`` and ``EXCLUDE`` select a table.

        Always True for an own nudge, always False for a table of a cache.
        """
        return self._selection()(payload)

    def _selection(self) -> Callable[[str], bool]:
        """`selected` as a function that reads the settings only once, for many tables."""
        return selection(self, self._caches)

    def wholly_selected(self, payloads: Iterable[str]) -> frozenset[str]:
        """The payloads that are selected together with every table below them.

        A query of a table reads its partitions and children, even those that ``EXCLUDE`` names.
        """
        below = self._catalog.parents
        selected = frozenset(filter(self._selection(), {*payloads, *below}))
        lacking = {parent for child in below if child not in selected for parent in below[child]}
        return selected.intersection(payloads) - lacking

    def feed_tables(self) -> list[str] | None:
        """``TABLES`` for the feed's own filter: ``schema.table`` with ``*`` for either part.

        None for all tables. Also None if one of them is partitioned: the filter must let through
        partitions that are created later, and ``selected`` filters afterwards.
        """
        tables = conf.TABLES
        if tables is None:
            return None
        payloads = [self.payload_of(entry) for entry in tables]
        if any(payload in self._catalog.partitioned for payload in payloads):
            return None
        return sorted({*payloads, *(child for top in payloads for child in self.descendants(top))})

    def _index(self) -> None:
        models: dict[str, tuple[type[Model], ...]] = {}
        names: dict[str, tuple[str, str]] = {}
        payloads: dict[str, str] = {}
        for (named, table), entries in self._by_table.items():
            schema = named or self._catalog.schemas.get(table, "public")
            payload = payload_for(schema, table)
            names[payload] = schema, table
            if named is None:
                payloads[table] = payload
            models[payload] = (*models.get(payload, ()), *entries)
        self._caches = frozenset(
            payload_for(named or self._catalog.schemas.get(table, "public"), table)
            for named, table in self._cache_tables
        )
        # Replaced as a whole, because other threads read them at the same time.
        self._names: Mapping[str, tuple[str, str]] = names
        self._payloads_by_table: Mapping[str, str] = payloads
        self._models: Mapping[str, tuple[type[Model], ...]] = models
        self._row_keys = RowKeys(self._catalog, self.pk_fields)
        self._is_shared = self.has_tenants
        self.generation += 1

    def _model_payload(self, model: type[Model]) -> str:
        schema, table = split_db_table(model._meta.db_table)
        return payload_for(schema or self._catalog.schemas.get(table, "public"), table)


def _pairs(parents: Mapping[str, Iterable[str]]) -> set[tuple[str, str]]:
    return {(payload, parent) for payload, above in parents.items() for parent in above}
