"""Notes in the cache what receivers are told, for the tests to read."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.core.cache import cache


def note(sender: Any, tables: frozenset[str], models: frozenset[Any], **kwargs: Any) -> None:
    heard = cache.get("heard", [])
    heard.append([sorted(tables), sorted(model._meta.label for model in models)])
    cache.set("heard", heard, None)


def note_model(sender: Any, event: Any, **kwargs: Any) -> None:
    heard = cache.get("heard of", [])
    keys = None if event.keys is None else sorted(event.keys)
    heard.append([sender._meta.label, event.payload, keys])
    cache.set("heard of", heard, None)


class SharedConfig(AppConfig):
    name = "tests.compat.tenants_site.shared"
    default = True

    def ready(self) -> None:
        from django_pgnudge.signals import model_changed, tables_changed

        tables_changed.connect(note)
        model_changed.connect(note_model)
