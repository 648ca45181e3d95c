"""Migration operations.

A publication is a catalog object, so it is the application's, made by its own migration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.db import NotSupportedError, router
from django.db.migrations.operations.base import Operation, OperationCategory

from django_pgnudge.errors import ConfigError
from django_pgnudge.registry import Registry, split_db_table
from django_pgnudge.registry.catalog import payload_for, quote_identifier, server_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from django.apps.registry import Apps
    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.backends.base.schema import BaseDatabaseSchemaEditor
    from django.db.migrations.state import ProjectState
    from django.db.models import Model

__all__ = ["CreatePublication"]

# A column list for partitioned tables needs publish_via_partition_root, and that drops TRUNCATE of
# a single partition: they are published whole instead, partition by partition, future ones
# included.
_TABLE: Final = """
SELECT n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text,
c.relreplident::text, (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attgenerated <> ''), (SELECT
array_agg(a.attname::text ORDER BY k.at) FROM pg_index x CROSS JOIN LATERAL
unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, at) JOIN pg_attribute a ON a.attrelid =
c.oid AND a.attnum = k.attnum WHERE x.indrelid = c.oid AND x.indisprimary AND x.indimmediate
AND k.at <= x.indnkeyatts), (SELECT array_agg(a.attname::text ORDER BY k.at) FROM pg_index x
CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY AS k (attnum, at)
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum WHERE x.indrelid = c.oid
AND x.indisreplident AND k.at <= x.indnkeyatts) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
"""

# The table itself, and what its changes are written to: its partitions and the tables that inherit
# from it.
_WITH_CHILDREN: Final = f"""
WITH RECURSIVE tree (oid) AS (
    SELECT to_regclass(%s)::oid
    UNION
    SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid
)
{_TABLE} JOIN tree ON tree.oid = c.oid ORDER BY c.oid <> to_regclass(%s)::oid, 1, 2
"""  # noqa: S608 - two literals

_COLUMN_LISTS_SINCE: Final = 150000


@dataclass(frozen=True, slots=True)
class _Table:
    schema: str
    name: str
    kind: str
    persistence: str
    identity: str
    generated: Sequence[str] | None
    primary_key: Sequence[str] | None
    identity_index: Sequence[str] | None

    @property
    def payload(self) -> str:
        return payload_for(self.schema, self.name)

    def refusal(self) -> str | None:
        """Why a publication must not have this table."""
        if self.kind not in ("r", "p"):
            return "is not a table"
        if self.persistence == "u":
            return "is unlogged, so its changes are in no write-ahead log"
        if self.kind == "p" or self.identity == "f":
            return None
        identities = {"d": self.primary_key, "i": self.identity_index}
        if identities.get(self.identity):
            return None
        return {
            "d": "has no primary key, or a DEFERRABLE one, and so no replica identity",
            "i": "has lost the index that is its replica identity",
            "n": "has REPLICA IDENTITY NOTHING",
        }.get(self.identity, "has no replica identity")

    def columns(self) -> list[str] | None:
        """The columns to publish; None for the whole table, where a list is not possible."""
        if self.kind == "p" or self.identity == "f" or not self.primary_key:
            return None
        # UPDATE and DELETE fail unless the list covers the replica identity, whatever that is.
        needed = [*self.primary_key, *(self.identity_index or ())]
        return None if set(needed) & set(self.generated or ()) else list(dict.fromkeys(needed))


class CreatePublication(Operation):
    """Create the publication ``name`` for the tables of ``models``; reversed, drop it.

    ``models`` are labels: ``"shop.Product"``, ``"Product"`` of the migration's own app, and the
    tables of many-to-many fields as ``"shop.Product_categories"`` or
    ``"shop.Product.categories"``. On PostgreSQL 15 and later only the primary keys are published,
    which is all the feed reads; partitioned tables and tables with REPLICA IDENTITY FULL are
    published whole.

    A published table without replica identity refuses UPDATE and DELETE. So such tables are
    refused here, by ConfigError naming them all, before anything is made. On databases other than
    PostgreSQL it raises NotSupportedError.
    """

    category = OperationCategory.ADDITION
    reduces_to_sql = True
    reversible = True

    def __init__(self, name: str, models: Iterable[str]) -> None:
        models = [models] if isinstance(models, str) else list(models)
        if not isinstance(name, str) or not name or "\0" in name:
            raise ConfigError(f"CreatePublication({name!r}): a publication's name is a string.")
        if not models or not all(isinstance(label, str) and label for label in models):
            raise ConfigError(
                f"CreatePublication({name!r}, models={models!r}): name at least one model's label."
            )
        self.name = name
        self.models = models

    def deconstruct(self) -> tuple[str, list[Any], dict[str, Any]]:
        return type(self).__qualname__, [], {"name": self.name, "models": self.models}

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """Models are not changed."""

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        connection = schema_editor.connection
        if not self._is_wanted(connection, app_label):
            return
        tables = [
            (model, self._tables(connection, model, is_dry=schema_editor.collect_sql))
            for model in self._models(app_label, to_state.apps)
        ]
        refused = {
            f"{table.payload} ({model._meta.label}) {why}"
            for model, family in tables
            for table in family
            if (why := table.refusal())
        }
        if refused:
            raise ConfigError(
                f"The publication {self.name!r} was not created. {'; '.join(sorted(refused))}."
                " UPDATE and DELETE on a published table without replica identity fail: give it a"
                " primary key or a REPLICA IDENTITY, or leave it out of models=."
            )
        has_lists = server_version(connection) >= _COLUMN_LISTS_SINCE
        targets = dict.fromkeys(_target(family, has_lists) for _, family in tables)
        schema_editor.execute(
            f"CREATE PUBLICATION {quote_identifier(self.name)} FOR TABLE {', '.join(targets)}",
            None,
        )

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        if self._is_wanted(schema_editor.connection, app_label):
            schema_editor.execute(f"DROP PUBLICATION {quote_identifier(self.name)}", None)

    def describe(self) -> str:
        return f"Create publication {self.name} for {', '.join(self.models)}"

    @property
    def migration_name_fragment(self) -> str:
        return "publication_" + "".join(c if c.isalnum() else "_" for c in self.name.lower())

    def _is_wanted(self, connection: BaseDatabaseWrapper, app_label: str) -> bool:
        if not router.allow_migrate(connection.alias, app_label, publication=self.name):
            return False
        if connection.vendor != "postgresql":
            raise NotSupportedError(
                f"CreatePublication({self.name!r}): the database {connection.alias!r} is"
                f" {connection.vendor}, and publications are PostgreSQL's. Keep the migration"
                " from it with a database router (allow_migrate gets publication= as a hint)."
            )
        return True

    def _models(self, app_label: str, apps: Apps) -> list[type[Model]]:
        registry = Registry(apps=apps)
        found: list[type[Model]] = []
        for label in self.models:
            model = registry.model_of(label if "." in label else f"{app_label}.{label}")
            if model is None:
                raise ConfigError(
                    f"CreatePublication({self.name!r}): {label!r} is no label of a model in the"
                    " migration's state. If it is another app's, depend on that app's migration."
                )
            found.append(model)
        return found

    def _tables(
        self, connection: BaseDatabaseWrapper, model: type[Model], *, is_dry: bool
    ) -> list[_Table]:
        """The model's table, then its partitions and heirs."""
        schema, name = split_db_table(model._meta.db_table)
        if is_dry:  # sqlmigrate: the table need not be there yet
            columns = [str(field.column) for field in model._meta.pk_fields]
            return [_Table(schema or "", name, "r", "p", "d", None, columns, None)]
        parts = (name,) if schema is None else (schema, name)
        regclass = ".".join(map(quote_identifier, parts))
        with connection.cursor() as cursor:
            cursor.execute(_WITH_CHILDREN, [regclass, regclass])
            found = [_Table(*row) for row in cursor.fetchall()]
        if not found:
            raise ConfigError(
                f"CreatePublication({self.name!r}): the database {connection.alias!r} has no table"
                f" {regclass} of {model._meta.label}. Run this after the one that makes it."
            )
        return found


def _target(family: list[_Table], has_lists: bool) -> str:
    """One entry of ``FOR TABLE``. A column list counts for the heirs too, so it has to suit all."""
    table = family[0]
    name = quote_identifier(table.name)
    if table.schema:
        name = f"{quote_identifier(table.schema)}.{name}"
    lists = [member.columns() for member in family]
    if not has_lists or lists[0] is None or any(columns != lists[0] for columns in lists):
        return name
    return f"{name} ({', '.join(map(quote_identifier, lists[0]))})"
