"""Migration operations for publications.

A publication is a database object like a table, so the application's own migrations create it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.db import router, transaction
from django.db.migrations.operations.base import Operation, OperationCategory

from django_pgnudge.errors import ConfigError, UnknownLabelError
from django_pgnudge.migrating import dependency_for
from django_pgnudge.registry import Registry, split_db_table
from django_pgnudge.registry.catalog import quote_identifier, server_version
from django_pgnudge.registry.published import (
    PublishedTable,
    column_list,
    find_family,
    find_publication,
    regclass,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.apps.registry import Apps
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.migrations.state import ProjectState
    from django.db.models import Model

__all__ = [
    "AddToPublication",
    "CreatePublication",
    "PublicationOperation",
    "RemoveFromPublication",
]

# Migrations of two tenants may run at the same time. Without a lock both would find no publication
# and both would create it.
_LOCK: Final = """
SELECT pg_advisory_xact_lock(hashtextextended('django_pgnudge publication ' || %s, 0))
"""

_NAMED_TABLES: Final = """
SELECT n.nspname::text, c.relname::text
  FROM pg_publication_rel r
  JOIN pg_publication p ON p.oid = r.prpubid
  JOIN pg_class c ON c.oid = r.prrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE p.pubname = %s
"""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A table that a publication names, and the tables whose changes it covers."""

    label: str
    table: PublishedTable
    members: list[PublishedTable]
    only: bool = False

    @property
    def sql(self) -> str:
        """The table's name; ONLY if other tables inherit from it, since each has its own entry."""
        return ("ONLY " if self.only else "") + regclass(self.table.schema or None, self.table.name)

    def with_columns(self, version: int) -> str:
        return self.sql + column_list(self.table.columns(version))


class PublicationOperation(Operation):
    """The base of the operations: a publication's name, and labels of models."""

    reduces_to_sql = True
    reversible = True
    verb: ClassVar[str]

    def __init__(self, name: str, models: Iterable[str]) -> None:
        models = [models] if isinstance(models, str) else list(models)
        what = type(self).__name__
        if not isinstance(name, str) or not name or "\0" in name:
            raise ConfigError(f"{what}({name!r}): the name of a publication is a non-empty string.")
        if not models or not all(isinstance(label, str) and label for label in models):
            raise ConfigError(f"{what}({name!r}, models={models!r}): name at least one model"
                              " label.")  # fmt: skip
        self.name = name
        self.models = models

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [], {"name": self.name, "models": self.models}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """The models do not change."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self._do(schema_editor, app_label, to_state)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        self._undo(schema_editor, app_label, from_state)

    def _do(self, editor: BaseDatabaseSchemaEditor, app_label: str, state: ProjectState) -> None:
        raise NotImplementedError

    def _undo(self, editor: BaseDatabaseSchemaEditor, app_label: str, state: ProjectState) -> None:
        raise NotImplementedError

    def describe(self) -> str:
        return f"{self.verb.format(self.name)} {', '.join(self.models)}"

    @property
    def migration_name_fragment(self) -> str:
        prefix = "" if isinstance(self, CreatePublication) else f"{self.verb.split()[0].lower()}_"
        name = "".join(c if c.isalnum() else "_" for c in self.name.lower())
        return f"{prefix}publication_{name}"

    def _publish(
        self,
        editor: BaseDatabaseSchemaEditor,
        app_label: str,
        state: ProjectState,
        *,
        create: bool,
    ) -> None:
        """Add the tables to the publication, with the columns that each needs."""
        connection = editor.connection
        if not self._is_wanted(connection, app_label):
            return
        models = self._models(app_label, state.apps)
        if editor.collect_sql:
            version = server_version(connection)
            listed = [_planned_entry(model).with_columns(version) for model in models]
            editor.execute(self._statement("CREATE" if create else "ADD", listed), None)
            return
        with transaction.atomic(using=connection.alias):
            self._lock(connection)
            found = find_publication(connection, self.name)
            if found is None and not create:
                raise ConfigError(
                    f"{type(self).__name__}: the database {connection.alias!r} has no publication"
                    f" {self.name!r}. Create it first, in a migration with"
                    " CreatePublication. One that was faked has created nothing."
                )
            entries = self._entries(connection, models)
            generated = found is not None and found.generated
            self._refuse(connection, entries, generated=generated)
            version = server_version(connection)
            renewed, added = [], []
            for entry in entries:
                table = entry.table
                if table.is_implied:
                    continue
                if table.is_entry:
                    if not any(
                        member.left_out(version, table.listed, generated=generated)
                        for member in entry.members
                    ):
                        continue
                    renewed.append(entry.sql)
                added.append(entry.with_columns(version))
            if found is None:
                # There are no tables to add if a router keeps all of them from this database.
                if added:
                    editor.execute(self._statement("CREATE", added), None)
                return
            if renewed:
                editor.execute(self._statement("DROP", renewed), None)
            if added:
                editor.execute(self._statement("ADD", added), None)

    def _withdraw(
        self,
        editor: BaseDatabaseSchemaEditor,
        app_label: str,
        state: ProjectState,
        *,
        drop: bool,
    ) -> None:
        """Remove the tables from the publication; with ``drop``, removing the last one drops it."""
        connection = editor.connection
        if not self._is_wanted(connection, app_label):
            return
        models = self._models(app_label, state.apps)
        if editor.collect_sql:
            tables = [_planned_entry(model).sql for model in models]
            editor.execute(self._statement("", []) if drop else self._statement("DROP", tables),
                           None)  # fmt: skip
            return
        with transaction.atomic(using=connection.alias):
            self._lock(connection)
            found = find_publication(connection, self.name)
            if found is None:
                return
            with connection.cursor() as cursor:
                cursor.execute(_NAMED_TABLES, [self.name])
                left = set(cursor.fetchall())
            mine: dict[tuple[str, str], str] = {}
            allowed: dict[tuple[str, str], str] = {}
            for model in models:
                schema, name = split_db_table(model._meta.db_table)
                family = find_family(connection, self.name, schema, name)
                entries = {
                    (entry.table.schema, entry.table.name): entry.sql
                    for entry in _entries(model, family)
                    if entry.table.is_entry
                }
                mine |= entries
                if router.allow_migrate_model(connection.alias, model):
                    allowed |= entries
            # A table that tenants share stays while the publication has another tenant's tables.
            if drop and not found.is_open and left <= set(mine):
                editor.execute(self._statement("", []), None)
            elif allowed:
                editor.execute(self._statement("DROP", list(allowed.values())), None)

    def _statement(self, verb: str, tables: list[str]) -> str:
        name = quote_identifier(self.name)
        listed = ", ".join(tables)
        if verb == "CREATE":
            return f"CREATE PUBLICATION {name} FOR TABLE {listed}"
        if not verb:
            return f"DROP PUBLICATION {name}"
        return f"ALTER PUBLICATION {name} {verb} TABLE {listed}"

    def _lock(self, connection: BaseDatabaseWrapper) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_LOCK, [self.name])

    def _is_wanted(self, connection: BaseDatabaseWrapper, app_label: str) -> bool:
        """False on other database systems, as in the operations of django.contrib.postgres."""
        return connection.vendor == "postgresql" and router.allow_migrate(
            connection.alias, app_label, publication=self.name
        )

    def _models(self, app_label: str, apps: Apps) -> list[type[Model]]:
        registry = Registry(apps=apps)
        found: list[type[Model]] = []
        for written in self.models:
            label = written if "." in written else f"{app_label}.{written}"
            try:
                model, why = registry.model_of(label), "it is no label"
            except UnknownLabelError as error:
                model, why = None, str(error)
            if model is None:
                raise ConfigError(
                    f"{type(self).__name__}({self.name!r}): the migration knows no model"
                    f" {written!r}. {dependency_for(label) or why}"
                )
            found.append(model)
        return list(dict.fromkeys(found))

    def _entries(self, connection: BaseDatabaseWrapper, models: list[type[Model]]) -> list[_Entry]:
        """The entries that the publication needs.

        Leaves out a missing table if a router keeps it from this database. A table that exists is
        included even then: a router of tenants keeps shared tables from a tenant's migrations, and
        they are published all the same.
        """
        found: dict[PublishedTable, _Entry] = {}
        for model in models:
            schema, name = split_db_table(model._meta.db_table)
            entries = _entries(model, find_family(connection, self.name, schema, name))
            if not entries and router.allow_migrate_model(connection.alias, model):
                raise ConfigError(
                    f"{type(self).__name__}({self.name!r}): the database {connection.alias!r} has"
                    f" no table {regclass(schema, name)} of {model._meta.label}. Run this after the"
                    " migration that creates it."
                )
            found |= {entry.table: entry for entry in entries}
        return list(found.values())

    def _refuse(
        self, connection: BaseDatabaseWrapper, entries: list[_Entry], *, generated: bool
    ) -> None:
        version = server_version(connection)
        refused = set()
        for entry in entries:
            listed = entry.table.columns(version)
            for table in entry.members:
                why = table.refusal() or table.left_out(version, listed, generated=generated)
                if why:
                    refused.add(f"{table.payload} ({entry.label}) {why}")
        if refused:
            raise ConfigError(
                f"The publication {self.name!r} was not changed. {'; '.join(sorted(refused))}."
                " UPDATE and DELETE fail on a published table that has no replica identity, or"
                " whose identity has columns that are not published. Give it a primary key or"
                " another REPLICA IDENTITY, or leave it out of models=."
            )


def _entries(model: type[Model], family: list[PublishedTable]) -> list[_Entry]:
    """One entry for a partitioned table and its partitions; one for each inheriting table."""
    label = model._meta.label
    if family and family[0].kind == "p":
        return [_Entry(label, family[0], family)]
    return [_Entry(label, table, [table], only=len(family) > 1) for table in family]


def _planned_entry(model: type[Model]) -> _Entry:
    """An entry for sqlmigrate, which may run before the table exists."""
    schema, name = split_db_table(model._meta.db_table)
    columns = tuple(str(field.column) for field in model._meta.pk_fields)
    table = PublishedTable(schema or "", name, "r", "p", "d", None, columns, None)
    return _Entry(model._meta.label, table, [table])


class CreatePublication(PublicationOperation):
    """Create the publication ``name`` for the tables of ``models``; reversed, drop it.

    ``models`` are labels: ``"shop.Product"``, ``"Product"`` for a model of the migration's app, and
    ``"shop.Product_categories"`` or ``"shop.Product.categories"`` for the table of a many-to-many
    field. On PostgreSQL 15 and later only the primary keys are published; the feed reads nothing
    else. Partitioned tables and tables with REPLICA IDENTITY FULL are published whole.

    If the publication exists, the operation adds the missing tables, so it may run once for each
    schema. Reversed, it removes its tables, and drops the publication with the last one.

    PostgreSQL refuses UPDATE and DELETE on a published table without replica identity. So the
    operation raises ConfigError, with the names of all such tables, before it changes anything. On
    databases other than PostgreSQL it does nothing.
    """

    category = OperationCategory.ADDITION
    verb = "Create publication {} for"

    def _do(self, editor: BaseDatabaseSchemaEditor, app_label: str, state: ProjectState) -> None:
        self._publish(editor, app_label, state, create=True)

    def _undo(self, editor: BaseDatabaseSchemaEditor, app_label: str, state: ProjectState) -> None:
        self._withdraw(editor, app_label, state, drop=True)


class AddToPublication(PublicationOperation):
    """Add the tables of ``models`` to the publication ``name``; reversed, remove them.

    A table that is already in the publication stays as it is, unless its column list does not cover
    its replica identity. Then the operation adds it again with the columns that it needs. Raises
    ConfigError as ``CreatePublication`` does, and if there is no such publication.
    """

    category = OperationCategory.ADDITION
    verb = "Add to publication {}:"

    def _do(self, editor: BaseDatabaseSchemaEditor, app_label: str, state: ProjectState) -> None:
        self._publish(editor, app_label, state, create=False)

    def _undo(self, editor: BaseDatabaseSchemaEditor, app_label: str, state: ProjectState) -> None:
        self._withdraw(editor, app_label, state, drop=False)


class RemoveFromPublication(PublicationOperation):
    """Remove the tables of ``models`` from the publication ``name``; reversed, add them.

    The publication stays, even if it is empty.
    """

    category = OperationCategory.REMOVAL
    verb = "Remove from publication {}:"

    def _do(self, editor: BaseDatabaseSchemaEditor, app_label: str, state: ProjectState) -> None:
        self._withdraw(editor, app_label, state, drop=False)

    def _undo(self, editor: BaseDatabaseSchemaEditor, app_label: str, state: ProjectState) -> None:
        self._publish(editor, app_label, state, create=False)
