"""registry/cache_tables.py: tables that hold a cache."""

from __future__ import annotations

from typing import Any

import pytest

from django_pgnudge.registry import Registry


class _Elsewhere:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "other" if model._meta.app_label == "django_cache" else None

    db_for_read = db_for_write


@pytest.mark.parametrize("location", ["kept", '"stock"."kept"'])
def test_the_table_of_a_cache_is_never_followed(settings: Any, location: str) -> None:
    settings.CACHES = settings.CACHES | {
        "table": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": location},
        "broken": {"BACKEND": "no.such.backend"},
    }
    payload = "public.kept" if location == "kept" else "stock.kept"
    settings.PGNUDGE = {"TABLES": ["*.*"]}
    registry = Registry()
    assert not registry.selected(payload)
    assert not registry.may_mean_more(payload)
    assert registry.selected("public.shop_product")
    assert Registry("other").selected(payload)
    settings.DATABASE_ROUTERS = [f"{__name__}._Elsewhere"]
    assert Registry().selected(payload)
    assert not Registry("other").selected(payload)
