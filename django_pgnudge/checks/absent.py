"""Finds why the database does not have a rule's table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.db.migrations.executor import MigrationExecutor

from django_pgnudge.registry.catalog import payload_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import Model

_VIEWS: Final = """
SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind = 'm'
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('v', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""


def views(connection: BaseDatabaseWrapper) -> dict[str, bool]:
    """The payload of each view, and whether it is materialised."""
    with connection.cursor() as cursor:
        cursor.execute(_VIEWS)
        return {payload_for(schema, name): kept for schema, name, kept in cursor.fetchall()}


def apps_to_migrate(connection: BaseDatabaseWrapper) -> frozenset[str]:
    """The labels of apps with migrations that have not run on this database."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return frozenset(migration.app_label for migration, _ in plan)


def is_to_come(models: Iterable[type[Model]], apps: frozenset[str]) -> bool:
    """Whether a migration that has not run may create the table of these models."""
    return any(model._meta.managed and model._meta.app_label in apps for model in models)
