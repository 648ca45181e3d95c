"""A model and everything below it: all models that inherit from it with tables of their own.

Written as the model's label with a plus, ``wagtailcore.Page+``. The models are looked up when they
are needed, since an app that is loaded later may add some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.apps import apps as global_apps
from django.db.models import Model

from django_pgnudge.errors import ConfigError
from django_pgnudge.memo import Memo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from django.apps.registry import Apps

PLUS: Final = "+"

_MOST_TREES: Final = 1000


def tree(model: type[Model] | str) -> str:
    """A model, or its label, and all models that inherit from it by multi-table inheritance.

    For dependencies and for the targets of rules.
    """
    if isinstance(model, str):
        if "." not in model or model.startswith('"'):
            raise ConfigError(f"nudged.tree({model!r}): pass a model or its label.")
        return model.removesuffix(PLUS) + PLUS
    if not (isinstance(model, type) and issubclass(model, Model)) or model._meta.abstract:
        raise ConfigError(f"nudged.tree({model!r}): pass a model that has a table, or its label.")
    return model._meta.label + PLUS


def is_tree(entry: object) -> bool:
    """Whether this is written like a tree; a table may have such a name, too."""
    return isinstance(entry, str) and entry.endswith(PLUS) and "." in entry and entry[0] != '"'


def expanded(
    entries: Iterable[Any], model_of: Callable[[str], type[Model] | None], apps: Apps = global_apps
) -> Iterator[Any]:
    """The entries, with the models of each tree in its place.

    ``*.`` before a label stays before the labels. Raises UnknownLabelError.
    """
    for entry in entries:
        top = model_of(entry.removesuffix(PLUS)) if is_tree(entry) else None
        if top is None:
            yield entry
        elif entry.startswith("*."):
            yield from (f"*.{each._meta.label}" for each in models_in_tree(top, apps))
        else:
            yield from models_in_tree(top, apps)


def models_in_tree(top: type[Model], apps: Apps = global_apps) -> tuple[type[Model], ...]:
    """The model with its table, and all models below that have tables of their own."""
    known = models_now(apps)
    remembered = _found.get(top)
    if remembered is not None and remembered[0] is known:
        return remembered[1]
    concrete: Any = top._meta.concrete_model or top
    below = [
        each
        for each in known
        if each is not concrete and not each._meta.proxy and issubclass(each, concrete)
    ]
    _found[top] = known, (concrete, *below)
    return _found[top][1]


def models_now(apps: Apps = global_apps) -> list[type[Model]]:
    """The models that are loaded: the same list until there are others."""
    return apps.get_models()


_found: Final[Memo[type[Model], tuple[list[type[Model]], tuple[type[Model], ...]]]] = Memo(
    _MOST_TREES
)
