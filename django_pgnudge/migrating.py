"""Finds the migration that creates a model; a migration that publishes its table depends on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.migrations.exceptions import (
    BadMigrationError,
    CircularDependencyError,
    NodeNotFoundError,
)
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

if TYPE_CHECKING:
    from collections.abc import Iterator

Undeclared = tuple[str, str, str]
"""A migration (``shop.0002_publication``), a label in it, and what to do about it."""


def dependency_for(label: str, loader: MigrationLoader | None = None) -> str:
    """The advice for a migration that publishes the model or many-to-many table of a label.

    Empty if no migration creates it. Reads all migrations from disk, as ``makemigrations`` does.
    """
    loader = loader or MigrationLoader(None, ignore_no_migrations=True)
    app = label.partition(".")[0]
    state = ProjectState(real_apps=loader.unmigrated_apps)
    plan: list[tuple[str, str]] = []
    for leaf in loader.graph.leaf_nodes(app):
        plan += [key for key in loader.graph.forwards_plan(leaf) if key not in plan]
    for key in plan:
        state = loader.graph.nodes[key].mutate_state(state, preserve=False)
        if key[0] == app and _has(state, label):
            return f"Add {key!r} to the migration's dependencies."
    return ""


def undeclared(operations: type | tuple[type, ...]) -> Iterator[Undeclared]:
    """The migrations with these operations that do not depend on a model they name.

    They work on a database that has the model's table. On a new database the order is random.
    """
    try:
        loader = MigrationLoader(None, ignore_no_migrations=True)
    except (BadMigrationError, CircularDependencyError, NodeNotFoundError):
        return  # Django reports it in every command that reads migrations
    for key, migration in sorted(loader.disk_migrations.items()):
        named = [
            label if "." in label else f"{key[0]}.{label}"
            for operation in migration.operations
            if isinstance(operation, operations)
            for label in operation.models  # type: ignore[attr-defined]
        ]
        if not named or key not in loader.graph.nodes:
            continue
        state = loader.project_state(key)
        for label in dict.fromkeys(named):
            if label.partition(".")[0] not in loader.unmigrated_apps and not _has(state, label):
                yield ".".join(key), label, dependency_for(label, loader)


def _has(state: ProjectState, label: str) -> bool:
    """Whether a state has the model of a label, or the field of its many-to-many table."""
    app, _, rest = label.partition(".")
    name, _, field = rest.partition(".")
    found = state.models.get((app, name.lower()))
    if found is not None:
        return not field or field in found.fields
    # Django's name of an automatic many-to-many model: Product_categories.
    return any(
        f"{model.name}_{each}".lower() == name.lower()
        for (of, _), model in state.models.items()
        if of == app
        for each in model.fields
    )
