"""Which tables of models a change concerns, by the names that third-party packages give them.

They know a table by its model's ``db_table`` and not by its schema, so a change concerns each model
whose table has the name: a model without a schema may be read in any.

The log has no changes of views. PostgreSQL would tell which tables a view names, but not which ones
its functions read. So a change of any table concerns each model of a view.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.db import connections

from django_pgnudge.registry import split_db_table
from django_pgnudge.third_party import Rows, Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from django_pgnudge.registry import Registry

_VIEWS = """
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""


class ConcernedTables:
    """The tables of models, of which the views are asked for once each time the map moves."""

    def __init__(self) -> None:
        self._views: frozenset[Table] = frozenset()
        self._read_for: tuple[str, int] | None = None

    def concerned(
        self, changes: Mapping[Table, Rows], registry: Registry, more: Iterable[str] = ()
    ) -> dict[str, Rows]:
        """The rows to invalidate, by ``db_table``; ``more`` are tables without a model."""
        found: dict[str, Rows] = {}
        by_name: dict[str, list[tuple[str | None, str]]] = {}
        for db_table in {*db_tables(), *more}:
            schema, name = split_db_table(db_table)
            by_name.setdefault(name, []).append((schema, db_table))
        for table, rows in changes.items():
            # A model that is loaded nowhere but in a web process would have this name.
            named = by_name.get(table.name, [(None, table.name)])
            for schema, db_table in named:
                if schema in (None, table.schema):
                    known = found.get(db_table, frozenset())
                    found[db_table] = None if known is None or rows is None else known | rows
        for view in self._views_of(registry):
            for schema, db_table in by_name.get(view.name, ()):
                if schema in (None, view.schema):
                    found[db_table] = None
        return found

    def _views_of(self, registry: Registry) -> frozenset[Table]:
        now = (registry.using, registry.generation)
        if self._read_for != now:
            connection = connections[registry.using]
            try:
                with connection.cursor() as cursor:
                    cursor.execute(_VIEWS)
                    self._views = frozenset(Table(*row) for row in cursor.fetchall())
            finally:
                connection.close()
            self._read_for = now
        return self._views


def db_tables() -> set[str]:
    """The names of all tables of models, automatic many-to-many tables included."""
    return {str(model._meta.db_table) for model in all_models()}


def all_models() -> list[Any]:
    """All models, those that are swapped out included."""
    return list(apps.get_models(include_auto_created=True, include_swapped=True))
