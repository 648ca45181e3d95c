"""What a value depends on: from models, labels, rows and payloads to `Dependency`.

Tables need the names that the daemon gives them. So each process asks PostgreSQL once a scope, on a
connection of its own, where search_path finds them and in which order their primary keys are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from django.db import connections
from django.db.models import Model

from django_pgnudge.decoding import write_value
from django_pgnudge.errors import ConfigError
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.memo import Memo
from django_pgnudge.reader.arguments import unwrapped
from django_pgnudge.reader.keys import Dependency
from django_pgnudge.reader.query_watch import unwatched
from django_pgnudge.reader.row_keys import as_key_value, assumed_column
from django_pgnudge.reader.scope import UNKNOWN_SCOPE, Scope
from django_pgnudge.registry import Registry
from django_pgnudge.registry.trees import expanded, is_tree
from django_pgnudge.rules.ruleset import shares_pk

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from django_pgnudge.events import Key, KeyValue
    from django_pgnudge.reader.nested import Ground

logger = get_logger("django_pgnudge.nudged")

MOST_MEANINGS: Final = 4096
"""Kept for the scope that connections begin with."""

MOST_MEANINGS_IN_SCOPE: Final = 256
"""Kept for each other scope."""

ASK_AGAIN: Final = 10.0
"""Seconds before PostgreSQL is asked again about a table that it did not have."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, by primary key."""

    target: type[Model] | str
    pk: Any
    kinds: tuple[type, ...] = field(init=False, repr=False)
    """1 and True are equal, but PostgreSQL writes them differently."""

    def __post_init__(self) -> None:
        values = self.pk if isinstance(self.pk, tuple) else (self.pk,)
        object.__setattr__(self, "kinds", tuple(map(type, values)))


def listed(depends_on: Any) -> tuple[Any, ...]:
    """One entry alone, or many, as a tuple."""
    if isinstance(depends_on, str | Model | Row | type) or not isinstance(depends_on, Iterable):
        return (depends_on,)  # a string is iterable, and would be taken for many of one letter
    return tuple(depends_on)


DependsOn: TypeAlias = type[Model] | Model | str | Row
"""A model, a label, ``schema.table`` or an own nudge; a saved instance or ``nudged.row``."""


def row(target: type[Model] | str, pk: Any) -> Row:
    """Dependence on one row: a change to another row does not end it, a bulk change does.

    ``target`` is a model, its label, or ``schema.table``; ``pk`` is ``obj.pk``, or for a table
    without a model its key as PostgreSQL prints it (integers as int); a tuple for several columns.
    Where PostgreSQL's text for a key is not certain, the value depends on the whole table.
    """
    if isinstance(pk, Model) or pk is None:
        raise ConfigError(f"nudged.row({target!r}, {pk!r}): the second is a primary key.")
    return Row(target, pk)


class DependencyResolver:
    """The tables of one database and scope, as the stream names them.

    ``shared`` is the resolver without a scope, which reads the catalogs for those of all scopes.
    """

    def __init__(
        self, using: str, scope: Scope = None, shared: DependencyResolver | None = None
    ) -> None:
        self.using = using
        self.scope = scope
        self.registry = Registry(using)
        self._shared = shared or self
        self._has_read = self._trusting = False
        self.doubted = False
        """Whether PostgreSQL must be asked again: its tables may have changed, or the alias may
        lead to another database."""
        self.epochs: dict[Ground, str] = {}
        self._news: dict[Ground, str] = {}
        self._meanings: Memo[tuple[int, tuple[DependsOn, ...]], frozenset[Dependency]] = Memo(
            MOST_MEANINGS if scope is None else MOST_MEANINGS_IN_SCOPE
        )
        self._asked_at: float | None = None
        self._lock = threading.Lock()
        self.catalog_lock = threading.Lock()
        """For whichever scope reads what all of them share."""

    @property
    def is_trusting(self) -> bool:
        """Whether ``trust_models`` was called."""
        return self._trusting

    @property
    def path(self) -> tuple[str, ...] | None:
        """The effective search_path by which they are found; None before PostgreSQL was asked."""
        return self.registry.path if self._has_read else None

    def trust_models(self) -> None:
        """Never ask PostgreSQL, and take the names of the models: for tests without a server."""
        self._has_read = self._trusting = True

    def doubt(self) -> None:
        """Let the next caller ask PostgreSQL again, at most every `ASK_AGAIN` seconds."""
        self.doubted = not self._trusting

    def knows(self, ground: Ground, epoch: str) -> bool:
        """Whether the tables were read after this epoch of a lease had been seen.

        A daemon that finds primary keys, partitions or names changed begins a new epoch, and then
        names rows by what it has read. If False, the next caller reads the tables again.
        """
        if self._trusting or self.epochs.get(ground) == epoch:
            return True
        self._news[ground] = epoch
        self.doubted = True
        return False

    def dependencies(self, entries: Iterable[DependsOn]) -> frozenset[Dependency] | None:
        """What the entries mean; None while PostgreSQL cannot be asked.

        Raises ConfigError for an entry without a meaning.
        """
        entries = self._listed(entries)
        if (self.doubted or not self._has_read) and not self._ask() and not self._has_read:
            return None
        # Before they are looked up: another thread may read the tables meanwhile.
        generation = self.registry.generation
        try:
            remembered = self._meanings.get((generation, entries))
        except TypeError:  # a primary key that cannot be hashed
            return self._meanings_of(entries)
        if remembered is None:
            remembered = self._meanings_of(entries)
            self._meanings[generation, entries] = remembered
        return remembered

    def identity(self) -> str | None:
        """What tells this database from others; None while PostgreSQL cannot be asked."""
        if not self._has_read:
            self._ask()
        return "fake" if self._trusting else self.registry.identity

    def may_ask(self, entries: tuple[DependsOn, ...]) -> bool:
        """Whether ``dependencies`` may ask PostgreSQL."""
        try:
            known = self.registry.generation, self._listed(entries)
            return self.doubted or known not in self._meanings
        except TypeError:
            return True

    def are_found_by(self, path: tuple[str, ...]) -> bool:
        """Whether a session with this effective search_path finds these tables, no others."""
        if self._trusting or path == self.path:
            return True
        # A schema may have been made since, or a privilege granted.
        return self._ask() and path == self.path

    def _listed(self, entries: Iterable[DependsOn]) -> tuple[DependsOn, ...]:
        """The entries, with the models that each tree has now."""
        entries = tuple(entries)
        if not any(map(is_tree, entries)):
            return entries
        return tuple(expanded(entries, self.registry.model_of))

    def _meanings_of(self, entries: tuple[DependsOn, ...]) -> frozenset[Dependency]:
        found = frozenset(each for entry in entries for each in self._meaning(entry))
        if self._is_news(found) and self._ask(news=True):
            found = frozenset(each for entry in entries for each in self._meaning(entry))
        return found

    def _model(self, target: type[Model] | Model | str) -> type[Model] | None:
        if isinstance(target, Model):
            return type(target)
        return self.registry.model_of(target) if isinstance(target, str) else target

    def _meaning(self, entry: DependsOn) -> Iterator[Dependency]:
        entry = unwrapped(entry)
        if isinstance(entry, Model):
            if entry.pk is None:
                raise ConfigError(f"nudged: {entry!r} is not saved, so it is no row yet.")
            entry = Row(type(entry), entry.pk)
        if isinstance(entry, Row):
            yield from self._rows(entry)
        elif isinstance(entry, str) or (isinstance(entry, type) and issubclass(entry, Model)):
            yield Dependency(self.registry.payload_of(entry))
            yield from (
                Dependency(self.registry.payload_of(parent))
                for parent in parents_of(self._model(entry))
            )
        else:
            raise ConfigError(
                f"nudged: {entry!r} is nothing to depend on. Name a model, its label, a"
                " 'schema.table', an own nudge, nudged.row(model, pk), or a saved instance."
            )

    def _rows(self, entry: Row) -> Iterator[Dependency]:
        model = self._model(entry.target)
        values = entry.pk if isinstance(entry.pk, tuple) else (entry.pk,)
        if model is None:
            if not all(type(value) in (int, bool, str) for value in values):
                raise ConfigError(
                    f"nudged.row({entry.target!r}, {entry.pk!r}): for a table without a model the"
                    " key is given as PostgreSQL prints it, int, bool or str."
                )
            payload = self.registry.payload_of(entry.target)
            yield self._row(payload, self._printed_key(payload, values))
            return
        yield self._row(self.registry.payload_of(model), self._key(model, values))
        for parent in parents_of(model):
            key = self._key(parent, values) if shares_pk(model, parent) else None
            yield Dependency(self.registry.payload_of(parent), key)

    def _key(self, model: type[Model], values: tuple[Any, ...]) -> Key | None:
        """The key in the order of the primary-key index.

        None if rows cannot be told apart, or if it is not certain how PostgreSQL writes the values.
        """
        fields = tuple(model._meta.pk_fields)
        if len(fields) != len(values):
            raise ConfigError(
                f"nudged.row: the primary key of {model._meta.label} has {len(fields)} columns,"
                f" not {len(values)}."
            )
        columns = self.registry.key_columns(self.registry.payload_of(model))
        if self._trusting:
            columns = tuple(map(assumed_column, fields))
        own = {
            str(field.column): (field, value) for field, value in zip(fields, values, strict=True)
        }
        if columns is None or {column.name for column in columns} != set(own):
            return None
        return _whole(as_key_value(*own[column.name], column, self.using) for column in columns)

    def _printed_key(self, payload: str, values: tuple[Any, ...]) -> Key | None:
        """The key of a table without a model; None if its types are not certain."""
        if self._trusting:
            return values
        columns = self.registry.key_columns(payload)
        if columns is None or len(columns) != len(values):
            return None
        return _whole(map(write_value, columns, values))

    @staticmethod
    def _row(payload: str, key: Key | None) -> Dependency:
        if key is None and may_log(f"row {payload}"):
            logger.info(
                "nudged: rows of %s cannot be told apart with certainty (the type of its primary"
                " key, or that it has none or another one than its model), so what depends on one"
                " depends on all of them.",
                payload,
            )
        return Dependency(payload, key)

    def _is_news(self, found: frozenset[Dependency]) -> bool:
        """Whether a table is named that the database did not have when it was asked."""
        return not self._trusting and any(
            "." in each.payload and not self.registry.exists(each.payload) for each in found
        )

    def _ask(self, *, news: bool = False) -> bool:
        if self.scope == UNKNOWN_SCOPE:
            if may_log(f"unknown scope {self.using}"):
                logger.warning(
                    "nudged: asynchronous code cannot tell which tenant the connections of the"
                    " database %r serve, so its values are computed and not cached. Say so by"
                    ' PGNUDGE["NUDGED"]["SCOPE"].',
                    self.using,
                )
            return False
        with self._lock:
            epochs, now = dict(self._news), time.monotonic()
            asked_now = self._asked_at is not None and now - self._asked_at < ASK_AGAIN
            if asked_now and not (epochs and self._has_read):
                return False
            self._asked_at = now
            if not self._read(news, epochs):
                self._has_read = self._has_read and not epochs
                return False
            self.epochs.update(epochs)
            self._news = {
                ground: epoch for ground, epoch in self._news.items() if epochs.get(ground) != epoch
            }
            self.doubted = bool(self._news)
            return True

    def _read(self, news: bool, epochs: dict[Ground, str]) -> bool:
        connection = connections[self.using].copy()
        try:
            with unwatched():
                if self.scope is None:
                    with self.catalog_lock:
                        self.registry.refresh(connection)
                else:
                    self.registry = self._on_path(connection, self.scope, news, epochs)
        except Exception as error:
            if may_log(f"ask failed {self.using}"):
                logger.warning(
                    "nudged: database %r did not say what its tables are, so nothing is cached: %s",
                    self.using,
                    error,
                )
            return False
        finally:
            if connection.connection is not None:  # on an event loop there is none
                connection.close()
        self._meanings.clear()
        self._has_read = True
        return True

    def _on_path(
        self,
        connection: BaseDatabaseWrapper,
        scope: tuple[str, ...],
        news: bool,
        epochs: dict[Ground, str],
    ) -> Registry:
        """The tables in a scope. What all scopes share is read once, and again in another epoch and
        for a tenant or a table that is younger."""
        shared = self._shared
        whole = shared.registry
        # If many scopes come to an epoch at once, the first one reads for all.
        with shared.catalog_lock:
            if not shared.epochs.items() >= epochs.items():
                whole.refresh(connection)
                shared.epochs.update(epochs)
        generation = whole.generation
        found = whole.on_path(connection, scope)
        if found.lacks_schemas() or (news and whole.age() >= ASK_AGAIN):
            with shared.catalog_lock:
                if whole.generation == generation:
                    whole.refresh(connection)
            found = whole.on_path(connection, scope)
        return found


def _whole(values: Iterable[KeyValue | None]) -> Key | None:
    key = tuple(values)
    return None if None in key else cast("Key", key)


def parents_of(model: type[Model] | None) -> Iterator[type[Model]]:
    """The tables of multi-table inheritance that are read with this one."""
    if model is not None:
        for parent in model._meta.all_parents:
            if parent._meta.concrete_model is not model._meta.concrete_model:
                yield parent
