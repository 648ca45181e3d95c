"""Rules of a test, and what a change deletes by them."""

from __future__ import annotations

from typing import Any

from django.test import override_settings

from django_pgnudge.events import Event, Key
from django_pgnudge.registry import Registry
from django_pgnudge.rules import CacheRef, RuleSet, load_rules

DEFAULT = CacheRef()
PRODUCT = "public.shop_product"


def rules(invalidate: dict[str, Any], registry: Registry | None = None) -> RuleSet:
    with override_settings(PGNUDGE={"INVALIDATE": invalidate}):
        return load_rules(registry or Registry())


def event(payload: str, *keys: Key | Any) -> Event:
    """A change of these rows; without any, of nobody knows which."""
    rows = frozenset(key if isinstance(key, tuple) else (key,) for key in keys)
    return Event(payload, 1.0, max(1, len(rows)), rows or None)


def deleted(keys: Any, change: Event, label: str = "shop.Product") -> tuple[set[str], set[str]]:
    deletes = rules({label: keys}).deletes(change)[DEFAULT]
    return deletes.keys, deletes.patterns
