"""registry/labels.py: what a name in a setting means."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from django_pgnudge.errors import ConfigError, UnknownLabelError
from django_pgnudge.names import own
from django_pgnudge.registry import Registry, split_db_table
from tests.shop import models

AWKWARD = "public.Preis.Liste, größe: INSERT"


@pytest.mark.parametrize(
    ("db_table", "parts"),
    [
        ("shop_product", (None, "shop_product")),
        ('"stock"."item"', ("stock", "item")),
        ('stock"."item', ("stock", "item")),
        ('"only"', (None, "only")),
        ('"a.b"."c"', ("a.b", "c")),
        ('"we""ird"."ta""ble"', ('we"ird', 'ta"ble')),
        ("a.b", (None, "a.b")),
        ('odd"', (None, 'odd"')),
    ],
)
def test_db_table_is_split_as_djangos_quoting_has_it(
    db_table: str, parts: tuple[str | None, str]
) -> None:
    assert split_db_table(db_table) == parts


@pytest.mark.parametrize(
    ("entry", "payload"),
    [
        (models.Product, "public.shop_product"),
        ("shop.Product", "public.shop_product"),
        ("shop.product", "public.shop_product"),
        ("shop.PRODUCT", "public.shop_product"),
        ("shop.CheapProduct", "public.shop_product"),
        ("public.shop_product", "public.shop_product"),
        ("shop_product", "public.shop_product"),
        ("shop.Product_categories", "public.shop_product_categories"),
        ("shop.Product.categories", "public.shop_product_categories"),
        ("shop.Product.categories.through", "public.shop_product_categories"),
        ("shop.Item", "stock.item"),
        ("stock.item", "stock.item"),
        ('"stock"."item"', "stock.item"),
        ("shop.Awkward", AWKWARD),
        (AWKWARD, AWKWARD),
        ("legacy.price_list", "legacy.price_list"),
        ("prices", "prices"),
        ("prices:all", "prices:all"),
        ("nobody.knows", "nobody.knows"),
        ('"shop"."Nothing"', "shop.Nothing"),
        ("two words.Here", "two words.Here"),
    ],
)
def test_labels_tables_and_own_nudges_have_a_payload(
    registry: Registry, entry: Any, payload: str
) -> None:
    assert registry.payload_of(entry) == payload


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("shop.Prodct", "Did you mean 'shop.Product'?"),
        ("shop.nothing", "names no model of the app 'shop'"),
        ("shopp.Product", "there is no app 'shopp'. Did you mean 'shop.Product'?"),
        ("shop.Product.category", "Did you mean 'categories'?"),
        ("shop.Product.name", "no many-to-many field"),
        ("shopp.product", "Did you mean 'shop.Product'?"),
        ("SHOP.product", "Did you mean 'shop.Product'?"),
        (
            "Product",
            "Did you mean 'shop.Product'? If it is what emit() sends, write own('Product').",
        ),
        ("product", "Did you mean 'shop.Product'?"),
        ("prodct", "Did you mean 'shop.Product'?"),
        ("shop_prodct", "Did you mean 'shop.Product'?"),
        ("Shop_Product", "Did you mean 'shop.Product'?"),
        ("Prices", "write own('Prices')"),
    ],
)
def test_what_can_only_be_a_wrong_label_is_an_error(
    registry: Registry, entry: str, words: str
) -> None:
    with pytest.raises(UnknownLabelError) as caught:
        registry.payload_of(entry)
    assert words in str(caught.value)
    assert isinstance(caught.value, ConfigError)


def test_what_is_said_to_be_an_own_nudge_is_one_and_words_near_no_table_are(
    registry: Registry,
) -> None:
    for name in ("Product", "shop_prodct", "shop_product", "Prices"):
        assert registry.payload_of(own(name)) == name
        assert registry.model_of(own(name)) is None
    for name in ("prices", "größe: 'x'", "weather 7"):
        assert registry.payload_of(name) == name
    with pytest.raises(TypeError, match="without a dot"):
        own("shop.Product")


def test_a_schema_that_is_known_is_no_slip_of_an_app(registry: Registry) -> None:
    assert registry.payload_of("public.shop_product2") == "public.shop_product2"


def test_the_way_to_write_a_table_like_a_label_is_named(registry: Registry) -> None:
    with pytest.raises(UnknownLabelError, match=r"""is written '"shop"\."nothing"'"""):
        registry.payload_of("shop.nothing")


def test_a_swapped_model_is_refused_with_its_successor(registry: Registry) -> None:
    with (
        override_settings(AUTH_USER_MODEL="shop.Category"),
        pytest.raises(UnknownLabelError, match=r"swapped out: use 'shop\.Category'"),
    ):
        registry.payload_of("auth.User")


def test_a_schema_may_be_called_like_an_app(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models.Item._meta, "db_table", '"shop"."box"')
    assert Registry().payload_of("shop.box") == "shop.box"
