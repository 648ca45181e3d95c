"""`nudged.tree`: a model and all models below it, as dependencies and as targets of rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.http import HttpResponse
from django.template import Context, Engine
from django.test import RequestFactory, override_settings

from django_pgnudge import invalidates, nudged, nudged_page
from django_pgnudge.checks.static import run
from django_pgnudge.errors import ConfigError, UnknownLabelError
from django_pgnudge.events import Event
from django_pgnudge.reader.declared import declared_tables
from django_pgnudge.reader.state import reader_state
from django_pgnudge.registry import Registry
from django_pgnudge.rules import CacheRef, RuleSet, load_rules
from django_pgnudge.rules.registration import sandbox
from tests.shop.models import Bistro, Category, CheapProduct, Franchise, Place, Restaurant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_pgnudge.testing import NudgeFake

DEFAULT = CacheRef()
WHOLE = {"shop_place", "shop_restaurant", "shop_bistro", "shop_franchise"}


def tables(*depends_on: Any) -> set[str]:
    found = reader_state("default").tables.dependencies(depends_on)
    assert found is not None
    assert all(each.row is None for each in found)
    return {each.payload.removeprefix("public.") for each in found}


@pytest.mark.usefixtures("nudge_fake")
def test_a_tree_is_the_model_and_all_below_and_their_parents() -> None:
    assert nudged.tree(Place) == nudged.tree("shop.Place") == "shop.Place+"
    assert nudged.tree("shop.Place+") == "shop.Place+"
    assert tables("shop.Place+") == WHOLE
    assert tables(nudged.tree(Restaurant)) == {"shop_restaurant", "shop_bistro", "shop_place"}
    assert tables(nudged.tree(Category)) == {"shop_category"}
    assert tables(nudged.tree(CheapProduct)) == {"shop_product"}, "a proxy has the table of another"
    assert tables(Place) == {"shop_place"}


@pytest.mark.usefixtures("nudge_fake")
def test_a_name_with_a_plus_that_is_no_label_stays_a_name() -> None:
    assert tables("legacy.price+", '"shop"."Place+"', "c+") == {
        "legacy.price+", "shop.Place+", "c+"
    }  # fmt: skip


@pytest.mark.usefixtures("nudge_fake")
def test_what_is_no_model_is_said() -> None:
    with pytest.raises(UnknownLabelError, match=r"Did you mean 'shop\.Place'"):
        tables("shop.Plaec+")
    with pytest.raises(UnknownLabelError, match=r"Did you mean 'shop\.Place'"):
        tables(nudged.row("shop.Place+", 1))

    class Above(models.Model):
        class Meta:
            abstract = True
            app_label = "shop"

    for wrong in (Above, Place(), int, "Place", '"shop"."place"'):
        with pytest.raises(ConfigError, match=r"nudged\.tree"):
            nudged.tree(wrong)  # type: ignore[arg-type]


@pytest.fixture
def kiosk(real_sessions: NudgeFake) -> Iterator[type[models.Model]]:
    """A model that is loaded later, in another app."""

    class Kiosk(Place):
        class Meta:
            app_label = "contenttypes"

    with connection.schema_editor() as editor:
        editor.create_model(Kiosk)
    yield Kiosk
    del apps.all_models["contenttypes"]["kiosk"]
    apps.clear_cache()
    del Place.kiosk  # type: ignore[attr-defined]


CALLS: list[str] = []


@nudged(nudged.tree(Place))
def shown() -> int:
    CALLS.append("")
    return len(CALLS)


def test_a_write_to_a_table_below_ends_the_value(real_sessions: NudgeFake) -> None:
    kinds = (Place, Restaurant, Bistro, Franchise)
    for model in kinds:
        before = shown()
        assert shown() == before
        real_sessions.changed(f"public.{model._meta.db_table}")
        assert shown() == before + 1
    before = shown()
    real_sessions.changed(Category)
    assert shown() == before


def test_a_model_that_is_loaded_later_counts(
    real_sessions: NudgeFake, request: pytest.FixtureRequest
) -> None:
    before = shown()
    assert shown() == before
    late = request.getfixturevalue("kiosk")
    assert shown() == before + 1, "the tree has another table"
    assert shown() == before + 1
    real_sessions.changed(f"public.{late._meta.db_table}")
    assert shown() == before + 2


@pytest.mark.usefixtures("real_sessions")
def test_a_page_and_a_fragment_depend_on_a_tree(nudge_fake: NudgeFake) -> None:
    template = Engine(libraries={"nudged": "django_pgnudge.templatetags.nudged"}).from_string(
        '{% load nudged %}{% nudged 60 it on "shop.Place+" %}{{ text }}{% endnudged %}'
    )
    calls = []

    @nudged_page(60, nudged.tree(Place))
    def view(request: Any) -> HttpResponse:
        calls.append(1)
        return HttpResponse(str(len(calls)))

    def get() -> str:
        return str(view(RequestFactory().get("/")).content.decode())

    def render(text: str) -> str:
        with nudged.reading():
            return str(template.render(Context({"text": text})))

    for _ in range(2):
        get()
    assert get() == get()
    assert [render(text) for text in "abc"] == ["a", "b", "b"]
    page = get()
    nudge_fake.changed("public.shop_bistro")
    assert get() != page
    assert render("d") == "d"
    assert {table for _, table in declared_tables(Registry())} == {f"public.{t}" for t in WHOLE}


def rules(invalidate: dict[str, Any]) -> RuleSet:
    with sandbox(), override_settings(PGNUDGE={"INVALIDATE": invalidate}):
        return load_rules(Registry())


def test_a_rule_for_a_tree_fires_for_the_tables_below() -> None:
    found = rules({"shop.Place+": ["places", "place:{pk}", "of {table}"], "shop.Place": "alone"})
    for table in ("shop_restaurant", "shop_bistro"):
        deletes = found.deletes(Event(f"public.{table}", 1.0, 1, frozenset({(7,)})))[DEFAULT]
        assert deletes.keys == {"places", "place:7", "of shop_place"}
    deletes = found.deletes(Event("public.shop_franchise", 1.0, 1, frozenset({("x",)})))[DEFAULT]
    assert deletes.keys == {"places", "of shop_place"}
    assert deletes.patterns == {"place:*"}, "its key is not that of the place"
    deletes = found.deletes(Event("public.shop_place", 1.0, 1, frozenset({(7,)})))[DEFAULT]
    assert deletes.keys == {"places", "place:7", "of shop_place", "alone"}
    assert found.payloads() == {f"public.{each}" for each in WHOLE}
    assert found.wants_keys() == {f"public.{each}" for each in WHOLE - {"shop_franchise"}}


def test_a_tree_in_the_middle_fires_for_its_parents_too() -> None:
    assert rules({"shop.Restaurant+": "r"}).payloads() == {
        "public.shop_restaurant", "public.shop_bistro", "public.shop_place"
    }  # fmt: skip


def test_a_tree_in_every_schema() -> None:
    assert rules({"shop.Place+": "p"}).deletes(Event("acme.shop_bistro", 1.0, 1)) == {}
    starred = rules({"*.shop.Place+": "{schema}:places"})
    assert {each.pattern for each in starred._starred} == {f"*.{each}" for each in WHOLE}


def test_a_tree_in_cachekeys() -> None:
    with sandbox():
        invalidates(nudged.tree(Place), "places")
        found = load_rules(Registry())
    assert f"public.{Bistro._meta.db_table}" in found.payloads()


def test_the_checks_say_what_is_wrong_with_a_tree() -> None:
    with override_settings(PGNUDGE={"INVALIDATE": {"shop.Plaec+": "x"}, "TABLES": ["shop.Place+"]}):
        words = [each.msg + str(each.hint) for each in run()]
    assert any("shop.Plaec" in each and "Did you mean 'shop.Place'" in each for each in words)
    assert any("TABLES" in each and "shop.Place+" in each for each in words)


def test_a_tree_whose_top_is_not_followed_may_still_fire() -> None:
    def w004(*tables: str) -> list[str]:
        conf = {"INVALIDATE": {"shop.Place+": "x"}, "TABLES": list(tables)}
        with override_settings(PGNUDGE=conf):
            return [each.msg for each in run() if "shop.Place+" in each.msg]

    assert w004("shop.Bistro") == []
    assert len(w004("shop.Product")) == 1
