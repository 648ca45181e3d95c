"""Labels of models and names of tables, as users write them in rules and settings.

A star names many tables at once: ``*.shop_product``, ``stock.*``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from django.core.exceptions import FieldDoesNotExist

from django_pgnudge.conf.values import NEAR, closest, did_you_mean
from django_pgnudge.errors import UnknownLabelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from django.apps.registry import Apps
    from django.db.models import Model

    ByTable: TypeAlias = Mapping[tuple[str | None, str], Sequence[type[Model]]]

EVERY_TABLE: Final = "*.*"
"""The name that means all tables of all schemas."""

_QUOTED = re.compile(r'"((?:[^"]|"")+)"(?:\."((?:[^"]|"")+)")?')


def split_db_table(db_table: str) -> tuple[str | None, str]:
    """The schema (None if not named) and table of a ``db_table``, as PostgreSQL reads it.

    Django puts a name in quotes unless it begins and ends with one. So both
    ``'"schema"."table"'`` and ``'schema"."table'`` name a schema.
    """
    quoted = db_table if db_table[:1] == db_table[-1:] == '"' else f'"{db_table}"'
    match = _QUOTED.fullmatch(quoted)
    if match is None:
        return None, db_table
    first, second = (part and part.replace('""', '"') for part in match.groups())
    return (None, first) if second is None else (first, second)


def check_own(entry: str, by_table: ByTable) -> None:
    """Raise UnknownLabelError for a name without a dot that is probably not an own nudge."""
    known: dict[str, str] = {}
    for (_, table), models in by_table.items():
        for model in models:
            label = model._meta.label
            known.setdefault(model._meta.object_name or label, label)
            if not model._meta.proxy:
                known[table] = label
    meant = closest(entry, known, NEAR)
    if meant is not None or entry != entry.lower():
        raise UnknownLabelError(
            f"{entry!r} names neither a model nor a model's table."
            f"{f' Did you mean {meant!r}?' if meant else ''}"
            f" If it is what emit() sends, write own({entry!r})."
        )


def model_of(
    entry: str, apps: Apps, is_table: Callable[[str], bool], is_schema: Callable[[str], bool]
) -> type[Model] | None:
    """The model of a label, or None for a table or own nudge. Raises UnknownLabelError."""
    app_label, _, rest = entry.removeprefix("*.").partition(".")
    if not rest or "*" in rest or entry.removeprefix("*.").startswith('"'):
        return None
    name, _, field = rest.partition(".")
    if app_label not in apps.app_configs:
        is_label = app_label.isidentifier() and name.isidentifier() and name[0].isupper()
        if is_table(entry) or field or is_schema(app_label):
            return None
        known = {
            model._meta.label: model._meta.label
            for model in apps.get_models(include_auto_created=True)
        }
        meant = closest(entry, known) if is_label else closest(entry, known, NEAR)
        if not is_label and meant is None:
            return None
        raise UnknownLabelError(
            f"{entry!r} names no model: there is no app {app_label!r}."
            f"{f' Did you mean {meant!r}?' if meant else ''}"
            f" A table of that name is written {_quoted(app_label, rest)}."
        )
    try:
        model = apps.get_model(app_label, name)
    except LookupError:
        if is_table(entry):
            return None
        config = apps.get_app_config(app_label)
        labels = [model._meta.label for model in config.get_models(include_auto_created=True)]
        raise UnknownLabelError(
            f"{entry!r} names no model of the app {app_label!r}.{did_you_mean(entry, labels)}"
            f" A table of that name is written {_quoted(app_label, rest)}."
        ) from None
    if model._meta.swapped:
        raise UnknownLabelError(f"{entry!r} is swapped out: use {model._meta.swapped!r}.")
    return _through(entry, model, field.removesuffix(".through")) if field else model


def is_starred(name: str) -> bool:
    """Whether a name has ``*`` for the schema or the table."""
    schema, dot, table = name.partition(".")
    return bool(dot) and "*" in (schema, table)


def is_meant(name: str, schema: str, table: str) -> bool:
    """Whether ``name``, which may have ``*`` for schema, table or both, means this table."""
    wanted, _, named = name.partition(".")
    return wanted in ("*", schema) and named in ("*", table)


def _through(entry: str, model: type[Model], field: str) -> type[Model]:
    try:
        through = getattr(model._meta.get_field(field).remote_field, "through", None)
    except FieldDoesNotExist:
        through = None
    if through is None:
        known = [other.name for other in model._meta.many_to_many]
        raise UnknownLabelError(
            f"{entry!r} names no many-to-many field of {model._meta.label}."
            f"{did_you_mean(field, known)}"
        )
    return cast("type[Model]", through)


def _quoted(*parts: str) -> str:
    return "'" + ".".join('"' + part.replace('"', '""') + '"' for part in parts) + "'"
