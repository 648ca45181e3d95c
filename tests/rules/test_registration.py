"""rules/registration.py: rules in code."""

from __future__ import annotations

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_pgnudge import invalidates
from django_pgnudge.errors import ConfigError
from django_pgnudge.events import Event
from django_pgnudge.rules import CacheRef, Deletes
from django_pgnudge.rules.registration import registrations
from tests.rules.deleting import DEFAULT, PRODUCT, event, rules
from tests.shop import models

DISCOVERED = registrations()  # at import: what Django found when it loaded the apps


def test_a_module_that_fails_to_import_is_told_and_never_while_django_starts() -> None:
    invalidates(models.Product, "tests.shop.unimportable.keys")
    with pytest.raises(ImproperlyConfigured, match="not today"):
        rules({})


def test_rules_in_code_are_as_good_as_those_in_the_setting() -> None:
    invalidates(models.Product, "products", "product:{pk}", version=2)

    @invalidates("shop.Category", cache="fast")
    def category_keys(change: Event) -> list[str]:
        return ["categories"]

    found = rules({"shop.Product": "more"})
    assert category_keys(event("x")) == ["categories"], "decorating leaves the function as it is"
    assert found.deletes(event(PRODUCT, 1)) == {
        DEFAULT: Deletes({"more"}, set()),
        CacheRef("default", 2): Deletes({"products", "product:1"}, set()),
    }
    assert found.deletes(event("public.shop_category")) == {
        CacheRef("fast"): Deletes({"categories"}, set())
    }


def test_a_mistake_in_code_is_raised_where_it_is_made() -> None:
    with pytest.raises(ConfigError, match="The fields are"):
        invalidates(models.Product, "p:{id}")
    with pytest.raises(ConfigError, match="version='2'"):
        invalidates(models.Product, "p", version="2")  # type: ignore[call-overload]
    assert registrations() == ()


def test_what_only_the_registry_knows_of_a_rule_in_code_is_found_on_loading() -> None:
    invalidates("shop.Produkt", "p")
    with pytest.raises(ImproperlyConfigured, match=r"invalidates\(shop\.Produkt"):
        rules({})


def test_cachekeys_modules_are_found_as_admin_modules_are() -> None:
    assert {entry.target for entry in DISCOVERED} == {models.Coupon}
    assert [([*entry.specs], entry.version) for entry in DISCOVERED] == [
        (["default"], None),
        (["fast"], 3),
    ]
