"""Keys of rows: one table's as another's of its lineage, and as the values of ``obj.pk``."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import DateTimeField
from django.utils import timezone

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from django.db.models import Field

    from django_pgnudge.events import Event, Key
    from django_pgnudge.registry.catalog import Catalog

    _Reader: TypeAlias = tuple[tuple[int, ...], tuple[Field[Any, Any], ...]]
    """The order in which to take a key's values, and the fields that convert them."""


class RowKeys:
    """By one state of the catalogs; ``pk_fields`` tells the fields of a table's model."""

    def __init__(
        self,
        catalog: Catalog,
        pk_fields: Callable[[str], tuple[Field[Any, Any], ...] | None],
    ) -> None:
        self._catalog = catalog
        self._pk_fields = pk_fields
        self._readers: dict[tuple[str, str], _Reader | None] = {}

    def seen_as(self, event: Event, payload: str) -> Event:
        """As `Registry.seen_as`."""
        if payload == event.payload:
            return event
        keys = event.keys
        if keys is not None:
            order = self._order(event.payload, self._catalog.pk_columns(payload) or ())
            if order is None or any(len(key) != len(order) for key in keys):
                keys = None
            elif order != tuple(range(len(order))):
                keys = frozenset(tuple(key[at] for at in order) for key in keys)
        return replace(event, payload=payload, keys=keys)

    def values(self, payload: str, key: Key, table: str) -> tuple[Any, ...] | None:
        """As `Registry.pk_values`."""
        if (payload, table) not in self._readers:
            self._readers[payload, table] = self._reader(payload, table)
        reader = self._readers[payload, table]
        if reader is None:
            return key
        order, fields = reader
        if not order or len(order) != len(key):
            return None
        values = tuple(key[at] for at in order)
        return tuple(map(_to_python, fields, values)) if fields else values

    def _order(self, payload: str, names: Sequence[str]) -> tuple[int, ...] | None:
        """The positions of these columns in the table's keys; None if the key has others."""
        columns = self._catalog.pk_columns(payload)
        if columns is None or set(columns) != set(names):
            return None
        return tuple(map(columns.index, names))

    def _reader(self, payload: str, table: str) -> _Reader | None:
        fields = self._pk_fields(table)
        if fields is None:
            if table == payload:
                return None
            return self._order(payload, self._catalog.pk_columns(table) or ()) or (), ()
        names = [str(field.column) for field in fields]
        if not self._catalog.tables:  # not read yet
            return tuple(range(len(names))), fields
        return self._order(payload, names) or (), fields


def _to_python(field: Field[Any, Any], value: object) -> Any:
    try:
        converted = field.to_python(value)
    except (ValidationError, ValueError, TypeError):
        return value
    if isinstance(field, DateTimeField) and not settings.USE_TZ and timezone.is_aware(converted):
        # The event has UTC. With USE_TZ off, Django reads naive values in local time.
        return timezone.make_naive(converted, timezone.get_default_timezone())
    return converted
