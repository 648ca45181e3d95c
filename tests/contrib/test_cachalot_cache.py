"""contrib.cachalot.cache: how a time is set. In the process of the test cachalot is not active."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache

from django_pgnudge.errors import CacheError
from django_pgnudge.registry import Registry
from django_pgnudge.third_party import Table

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytest.importorskip("cachalot")

from cachalot.settings import cachalot_settings
from cachalot.signals import post_invalidation
from cachalot.utils import get_table_cache_key

from django_pgnudge.contrib.cachalot import checks
from django_pgnudge.contrib.cachalot.cache import Cachalot
from django_pgnudge.contrib.concerned_tables import ConcernedTables

PRODUCT = Table("public", "shop_product")


class Forgetful(LocMemCache):
    """Ignores errors, as some clients are told to."""

    def set_many(self, *args: Any, **kwargs: Any) -> list[str]:
        return []


class Contested(LocMemCache):
    """Another host writes behind our back, once."""

    was_here = False

    def get_many(self, keys: Any, version: Any = None) -> dict[Any, Any]:
        if not self.was_here:
            self.was_here = True
            for key in keys:
                self.set(key, time.time() - 60)
        return super().get_many(keys, version)


@pytest.fixture(autouse=True)
def cachalot(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Cachalot:
    monkeypatch.setattr(cachalot_settings, "CACHALOT_TABLE_KEYGEN", get_table_cache_key)
    monkeypatch.setattr(cachalot_settings, "CACHALOT_DATABASES", frozenset({"default"}))
    monkeypatch.setattr(ConcernedTables, "_views_of", lambda self, registry: frozenset())
    use(settings, "django.core.cache.backends.locmem.LocMemCache")
    caches["default"].clear()
    return Cachalot()


def use(settings: Settings, backend: str) -> None:
    settings.CACHES = {"default": {"BACKEND": backend, "LOCATION": "cachalot"}}


def time_of(table: str) -> float | None:
    found: float | None = caches["default"].get(get_table_cache_key("default", table))
    return found


def test_the_time_is_ahead_of_hosts_whose_clock_is(cachalot: Cachalot, settings: Settings) -> None:
    settings.PGNUDGE = {"NUDGED": {"SKEW": 3.0}}
    before = time.time()
    assert cachalot.invalidate({PRODUCT: None}, Registry()) == 1
    told = time_of("shop_product")
    assert told is not None
    assert told >= before + 3.0
    assert time_of("shop_category") is None


def test_a_time_that_was_not_kept_is_an_error(cachalot: Cachalot, settings: Settings) -> None:
    use(settings, "tests.contrib.test_cachalot_cache.Forgetful")
    with pytest.raises(CacheError, match="did not keep the times of 1 tables"):
        cachalot.invalidate({PRODUCT: None}, Registry())


def test_a_time_that_another_host_overwrites_is_set_again(
    cachalot: Cachalot, settings: Settings
) -> None:
    use(settings, "tests.contrib.test_cachalot_cache.Contested")
    before = time.time()
    cachalot.invalidate({PRODUCT: None}, Registry())
    assert (time_of("shop_product") or 0.0) >= before


def test_tables_are_known_by_name_in_any_schema_that_the_model_does_not_name(
    cachalot: Cachalot,
) -> None:
    cachalot.invalidate({Table("acme", "shop_product"): None, Table("a", "item"): None}, Registry())
    assert time_of("shop_product")
    assert time_of('"stock"."item"') is None
    cachalot.invalidate({Table("stock", "item"): None}, Registry())
    assert time_of('"stock"."item"')


def test_everything_is_each_table_of_a_model_and_those_that_are_named(
    cachalot: Cachalot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cachalot_settings, "CACHALOT_ADDITIONAL_TABLES", ["plain"])
    monkeypatch.setattr(cachalot_settings, "CACHALOT_UNCACHABLE_TABLES", frozenset({"shop_day"}))
    heard: list[Any] = []

    def receiver(sender: str, **given: Any) -> None:
        heard.append((sender, given["db_alias"]))
        raise RuntimeError("a receiver of the site's")

    post_invalidation.connect(receiver)
    try:
        cachalot.invalidate_all(Registry())
    finally:
        post_invalidation.disconnect(receiver)
    for table in ("shop_product", "shop_product_categories", '"stock"."item"', "plain"):
        assert time_of(table), table
    assert time_of("shop_day") is None
    assert ("plain", "default") in heard


def test_a_view_changes_with_any_table(cachalot: Cachalot, monkeypatch: pytest.MonkeyPatch) -> None:
    view = frozenset({Table("public", "shop_category")})
    monkeypatch.setattr(ConcernedTables, "_views_of", lambda self, registry: view)
    cachalot.invalidate({PRODUCT: None}, Registry())
    assert time_of("shop_category")


def test_the_memory_of_processes_is_a_warning(settings: Settings) -> None:
    (found,) = checks.check_cachalot()
    assert found.id == "django_pgnudge.W012"
    use(settings, "django.core.cache.backends.dummy.DummyCache")
    assert checks.check_cachalot() == []


def test_a_cache_that_keeps_nothing_needs_nothing(cachalot: Cachalot, settings: Settings) -> None:
    use(settings, "django.core.cache.backends.dummy.DummyCache")
    assert cachalot.invalidate_all(Registry()) == 0
