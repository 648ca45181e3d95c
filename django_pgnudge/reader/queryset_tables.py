"""Which tables a queryset reads, as Django itself compiles it; no query is run.

Everything that the compiler writes into the statement is inspected: the tables of FROM, joins,
sub-queries and combined queries, and each expression. For SQL that Django does not write itself the
tables are unknown.
"""

# ruff: noqa: SLF001 - how a queryset is compiled has no public name

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from django.apps import apps
from django.core.exceptions import EmptyResultSet
from django.db import connections
from django.db.models import Func, Model, Prefetch, QuerySet
from django.db.models.constants import LOOKUP_SEP
from django.db.models.expressions import RawSQL
from django.db.models.fields.related_descriptors import (
    ForwardManyToOneDescriptor,
    ManyToManyDescriptor,
    ReverseManyToOneDescriptor,
    ReverseOneToOneDescriptor,
)
from django.db.models.manager import BaseManager
from django.db.models.query import RawQuerySet
from django.db.models.sql.datastructures import BaseTable, Join
from django.db.models.sql.where import ExtraWhere

from django_pgnudge.errors import UnknownTablesError

_OF_DJANGO: Final = "django."

_by_table: dict[str, Any] = {}

_FETCHING: Final = ("_fetch_all", "_iterator", "__iter__")


@dataclass(slots=True)
class QuerysetTables:
    """The models whose tables are read, and what tells the queryset from others of its tables."""

    models: set[type[Model]] = field(default_factory=set)
    identity: list[Any] = field(default_factory=list)


def is_queryset(value: object) -> bool:
    """Also a manager, such as ``product.categories``, and a raw query."""
    return isinstance(value, QuerySet | BaseManager | RawQuerySet)


def tables_of(value: Any, using: str) -> QuerysetTables:
    """What a queryset or a manager reads from the database alias ``using``.

    Raises UnknownTablesError where it cannot be told.
    """
    tables = QuerysetTables()
    _read(value.all() if isinstance(value, BaseManager) else value, using, tables)
    return tables


def _read(queryset: Any, using: str, tables: QuerysetTables) -> None:
    kind = type(queryset)
    if not isinstance(queryset, QuerySet):
        _refuse("it is raw SQL")
    if queryset.db != using:
        _refuse(f"it reads from the database {queryset.db!r}, not from {using!r}")
    rows = queryset._iterable_class
    own = [name for name in _FETCHING if getattr(kind, name) is not getattr(QuerySet, name)]
    if own or not _is_of_django(rows):
        _refuse(f"{kind.__name__} fetches its rows in its own way")
    tables.models.add(queryset.model)
    asked: Any = queryset
    tables.identity += [
        asked.model._meta.label, _compile(asked, using, tables), rows, asked._fields,
        asked._known_related_objects,
    ]  # fmt: skip
    if queryset._result_cache is not None:
        tables.identity.append(list(queryset._result_cache))
    _read_prefetched(queryset, using, tables)


def _compile(queryset: Any, using: str, tables: QuerysetTables) -> tuple[Any, ...] | None:
    query = queryset.query.chain()
    compiler = query.get_compiler(connection=_Connection(connections[using], tables))
    try:
        return tuple(compiler.as_sql())
    except EmptyResultSet:
        return None


def _inspect(node: Any, tables: QuerysetTables) -> None:
    """Note the table of one node of a statement, or refuse the node."""
    if not _is_of_django(type(node)):
        _refuse(f"the tables that {type(node).__qualname__} reads are unknown")
    if isinstance(node, RawSQL | ExtraWhere):
        _refuse("it contains SQL of your own")
    if type(node) is Func or (
        isinstance(node, Func) and {"function", "template"} & node.extra.keys()
    ):
        _refuse(f"the tables that the function in {node!r:.60} reads are unknown")
    if isinstance(node, BaseTable | Join):
        model = _models().get(node.table_name)
        if model is None:
            _refuse(f"the table {node.table_name} has no model")
        tables.models.add(model)


def _inspect_query(query: Any) -> None:
    if not _is_of_django(type(query)):
        _refuse(f"the tables that {type(query).__qualname__} reads are unknown")
    if query.extra_tables or query.extra or query.extra_order_by:
        _refuse("it contains SQL of your own")


class _Through:
    """Every attribute is that of the real object."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Connection(_Through):
    """A connection whose compilers inspect what they compile."""

    def __init__(self, real: Any, tables: QuerysetTables) -> None:
        super().__init__(real)
        self.ops = _Operations(real.ops, tables)


class _Operations(_Through):
    def __init__(self, real: Any, tables: QuerysetTables) -> None:
        super().__init__(real)
        self._tables = tables

    def compiler(self, name: str) -> Any:
        return functools.partial(_inspecting(self._real.compiler(name)), self._tables)


@functools.cache
def _inspecting(kind: Any) -> Any:
    class Inspecting(kind):  # type: ignore[misc]
        def __init__(self, tables: QuerysetTables, *args: Any) -> None:
            super().__init__(*args)
            self._tables = tables

        def compile(self, node: Any) -> Any:
            _inspect(node, self._tables)
            return super().compile(node)

        def as_sql(self, *args: Any, **kwargs: Any) -> Any:
            _inspect_query(self.query)
            return super().as_sql(*args, **kwargs)

    return Inspecting


def _read_prefetched(queryset: Any, using: str, tables: QuerysetTables) -> None:
    """The tables of prefetch_related, found by the relations that it names."""
    to_attr: dict[str, type[Model]] = {}
    for lookup in queryset._prefetch_related_lookups:
        prefetch = lookup if isinstance(lookup, Prefetch) else Prefetch(lookup)
        model: type[Model] = queryset.model
        steps = prefetch.prefetch_through.split(LOOKUP_SEP)
        for number, step in enumerate(steps, 1):
            found = to_attr.get(LOOKUP_SEP.join(steps[:number]))
            model = _related(model, step, tables) if found is None else found
            if number < len(steps) or prefetch.queryset is None:
                managers = (model._default_manager, model._base_manager)
                for manager in {type(each): each for each in managers}.values():
                    _read_tables(manager.using(using), using, tables)
            else:
                _read_tables(prefetch.queryset, using, tables)
        to_attr[prefetch.prefetch_to] = model
        tables.identity.append(prefetch.prefetch_to)


def _read_tables(queryset: Any, using: str, tables: QuerysetTables) -> None:
    if isinstance(queryset, QuerySet) and getattr(queryset, "_db", None) is None:
        queryset = queryset.using(using)
    inner = QuerysetTables(tables.models)
    _read(queryset, using, inner)
    tables.identity.append(inner.identity)


def _related(model: type[Model], name: str, tables: QuerysetTables) -> type[Model]:
    relation: Any = getattr(model, name, None)
    found: Any
    if isinstance(relation, ForwardManyToOneDescriptor):
        found = relation.field.remote_field.model
    elif isinstance(relation, ReverseOneToOneDescriptor):
        found = relation.related.related_model
    elif isinstance(relation, ManyToManyDescriptor):
        through: Any = relation.rel.through
        tables.models.add(through)
        found = relation.rel.related_model if relation.reverse else relation.rel.model
    elif isinstance(relation, ReverseManyToOneDescriptor):
        is_generic = not hasattr(relation.rel, "field_name")
        found = relation.rel.model if is_generic else relation.rel.related_model
    else:
        _refuse(f"prefetch_related({name!r}) is no relation of {model._meta.label} by itself")
    return found  # type: ignore[no-any-return]


def _models() -> dict[str, type[Model]]:
    """By their tables' names; built again when models are added, as Django's own list is."""
    models = apps.get_models(include_auto_created=True)
    if _by_table.get("of") is not models:
        _by_table.update(models={model._meta.db_table: model for model in models}, of=models)
    return _by_table["models"]  # type: ignore[no-any-return]


def _is_of_django(kind: type) -> bool:
    return kind.__module__.startswith(_OF_DJANGO)


def _refuse(why: str) -> NoReturn:
    raise UnknownTablesError(why)
