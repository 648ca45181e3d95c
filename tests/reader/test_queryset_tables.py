"""queries: which tables a queryset reads, told by what Django compiles of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import (
    Count,
    Exists,
    F,
    FilteredRelation,
    Func,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
)  # fmt: skip
from django.db.models.expressions import RawSQL
from django.db.models.functions import Lower
from django.db.models.query import ModelIterable
from django.db.models.sql import Query
from django.test.utils import isolate_apps

from django_pgnudge.errors import UnknownTablesError
from django_pgnudge.reader import queryset_tables
from django_pgnudge.reader.queryset_tables import tables_of
from tests.shop.models import Category, CheapProduct, Place, Product, Restaurant, Review

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.django_db
THROUGH = Product.categories.through
products = Product.objects
reviews = Review.objects

READS: dict[str, tuple[Callable[[], Any], set[type]]] = {
    "all": (products.all, {Product}),
    "none": (products.none, {Product}),
    "a proxy": (CheapProduct.objects.all, {Product}),
    "a filter over a relation": (lambda: reviews.filter(product__name="a"), {Review, Product}),
    "an exclusion over many": (
        lambda: products.exclude(categories__name="a"),
        {Product, THROUGH, Category},
    ),
    "many to many": (lambda: products.filter(categories=1), {Product, THROUGH}),
    "an order": (lambda: reviews.order_by("product__name"), {Review, Product}),
    "select_related": (lambda: reviews.select_related("product"), {Review, Product}),
    "values": (lambda: reviews.values("product__name"), {Review, Product}),
    "a slice": (lambda: reviews.filter(product__name="a")[2:5], {Review, Product}),
    "a count": (lambda: products.annotate(Count("review")), {Product, Review}),
    "exists": (
        lambda: products.filter(Exists(reviews.filter(product=OuterRef("pk")))),
        {Product, Review},
    ),
    "a subquery in its order": (
        lambda: products.annotate(
            best=Subquery(reviews.order_by("-product__price").values("stars")[:1])
        ),
        {Product, Review},
    ),
    "a subquery of a subquery": (
        lambda: Category.objects.filter(
            pk__in=THROUGH.objects.filter(product__in=products.filter(review__stars=5)).values(
                "category"
            )
        ),
        {Category, THROUGH, Product, Review},
    ),
    "a union": (
        lambda: products.values("name").union(Category.objects.values("name")),
        {Product, Category},
    ),
    "a filtered relation": (
        lambda: products.annotate(
            good=FilteredRelation("review", condition=Q(review__stars=5))
        ).filter(good__isnull=False),
        {Product, Review},
    ),
    "inheritance": (lambda: Restaurant.objects.filter(name="a"), {Restaurant, Place}),
    "functions": (lambda: products.annotate(low=Lower("name")).filter(low="a"), {Product}),
    "a prefetch": (
        lambda: products.prefetch_related("categories", "review_set"),
        {Product, THROUGH, Category, Review},
    ),
    "a prefetch backwards": (
        lambda: Category.objects.prefetch_related("product_set__review_set"),
        {Category, THROUGH, Product, Review},
    ),
    "a prefetch of one": (
        lambda: reviews.prefetch_related("product__categories"),
        {Review, Product, THROUGH, Category},
    ),
    "a prefetch of a parent": (
        lambda: Place.objects.prefetch_related("restaurant"),
        {Place, Restaurant},
    ),
    "a prefetch of a query": (
        lambda: products.prefetch_related(
            Prefetch("categories", Category.objects.filter(product__review__stars=5), "best"),
            *["best__product_set"],
        ),
        {Product, THROUGH, Category, Review},
    ),
    "permissions": (
        lambda: User.objects.filter(groups__permissions__codename="x").prefetch_related("groups"),
        {User, User.groups.through, Group, Group.permissions.through, Permission},
    ),
    "an order of the model": (Permission.objects.all, {Permission, ContentType}),
    "a manager": (lambda: Product(pk=1).categories, {THROUGH, Category}),
}


@pytest.mark.parametrize("name", READS)
def test_every_table_that_a_queryset_reads_is_told(name: str) -> None:
    make, tables = READS[name]
    assert {model._meta.db_table for model in tables_of(make(), "default").models} == {
        model._meta.db_table  # type: ignore[attr-defined]
        for model in tables
    }


class Own(QuerySet[Product]):
    def _fetch_all(self) -> None:
        super()._fetch_all()


class OwnRows(ModelIterable):
    """Asks for more by itself, as polymorphic models do."""


class OwnQuery(Query):
    pass


class Unaccent(Func):
    function = "UNACCENT"


def with_own_rows() -> QuerySet[Product]:
    found = products.all()
    found._iterable_class = OwnRows
    return found


UNKNOWN: dict[str, Callable[[], Any]] = {
    "raw": lambda: products.raw("SELECT * FROM shop_product"),
    "raw SQL": lambda: products.annotate(x=RawSQL("SELECT 1 FROM shop_review", ())),
    "extra select": lambda: products.extra(select={"x": "SELECT 1"}),
    "extra where": lambda: products.extra(where=["id IN (SELECT 1)"]),
    "extra tables": lambda: products.extra(tables=["shop_review"]),
    "extra order": lambda: products.extra(order_by=["shop_product.name"]),
    "raw SQL in a subquery": lambda: reviews.filter(
        product__in=products.filter(pk__in=RawSQL("SELECT 1", ()))
    ),
    "a function by name": lambda: products.annotate(x=Func(F("name"), function="prices_of")),
    "a function of another name": lambda: products.annotate(x=Lower("name", function="prices_of")),
    "a template": lambda: products.annotate(x=Lower("name", template="(SELECT 1)")),
    "a function of one's own": lambda: products.annotate(x=Unaccent("name")),
    "a queryset that fetches otherwise": lambda: Own(Product),
    "rows made otherwise": with_own_rows,
    "a query of one's own": lambda: QuerySet(Product, OwnQuery(Product)),
    "a prefetch of anything": lambda: products.prefetch_related(*["nothing_of_this_name"]),
    "a prefetch of raw SQL": lambda: products.prefetch_related(
        Prefetch("review_set", reviews.extra(where=["true"]))
    ),
    "another database": lambda: products.using("other"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_where_it_cannot_be_told_that_is_said(name: str) -> None:
    with pytest.raises(UnknownTablesError, match=r"\w"):
        tables_of(UNKNOWN[name](), "default")


def test_generic_relations_are_followed_one_way(monkeypatch: Any) -> None:
    with isolate_apps("tests.shop", "django.contrib.contenttypes") as isolated:

        class Tag(models.Model):  # noqa: DJ008
            content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
            object_id = models.IntegerField()
            thing = GenericForeignKey()

            class Meta:
                app_label = "shop"

        class Thing(models.Model):  # noqa: DJ008
            tags = GenericRelation(Tag)

            class Meta:
                app_label = "shop"

    monkeypatch.setattr(queryset_tables, "apps", isolated)
    found = tables_of(QuerySet(Thing).prefetch_related("tags"), "default").models
    assert found == {Thing, Tag}
    with pytest.raises(UnknownTablesError, match="thing"):
        tables_of(QuerySet(Tag).prefetch_related("thing"), "default")


def test_a_table_without_a_model_cannot_be_told() -> None:
    with isolate_apps("tests.shop"):

        class Stranger(models.Model):  # noqa: DJ008
            class Meta:
                app_label = "shop"

    with pytest.raises(UnknownTablesError, match="shop_stranger"):
        tables_of(QuerySet(Stranger), "default")


def test_a_queryset_is_not_run_nor_changed(django_assert_num_queries: Any) -> None:
    queryset = (
        reviews.select_related("product").order_by("product__name").prefetch_related("product")
    )
    before = str(queryset.query)
    with django_assert_num_queries(0):
        tables_of(queryset, "default")
    assert str(queryset.query) == before


def test_the_database_of_the_route_is_the_queryset_s_own(settings: Any) -> None:
    class Router:
        def db_for_read(self, model: Any, **hints: Any) -> str:
            return "other"

    settings.DATABASE_ROUTERS = [Router()]
    with pytest.raises(UnknownTablesError, match="'other'"):
        tables_of(products.all(), "default")
