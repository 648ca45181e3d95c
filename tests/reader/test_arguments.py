# ruff: noqa: DTZ001 - naive times are arguments too
"""arguments: what differs has another key, what is one has one, and the rest is refused."""

from __future__ import annotations

import datetime as dt
import enum
import uuid
from collections import namedtuple
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.db.migrations.state import ProjectState
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from django_pgnudge.errors import UnsureError
from django_pgnudge.reader.arguments import digest, instances_in
from tests.shop.models import Category, CheapProduct, Line, Product, Review

Point = namedtuple("Point", "x y")  # noqa: PYI024
Vector = namedtuple("Vector", "x y")  # noqa: PYI024


class Colour(enum.Enum):
    RED = 1
    CRIMSON = RED
    GREEN = 2


class Paint(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    ONE = 1


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Mode(enum.Flag):
    READ = 1
    WRITE = 2


class Loud(str):
    def __str__(self) -> str:
        return "LOUD"


class Half(int):
    def __format__(self, spec: str) -> str:
        return "half"


class Slotted(str):
    __slots__ = ("note",)


def Late(moment: dt.datetime, hours: int, zone: Any = None) -> LateDatetime:  # noqa: N802
    moment += dt.timedelta(hours=hours)
    return LateDatetime(moment.year, moment.month, moment.day, moment.hour, tzinfo=zone)


class LateDatetime(dt.datetime):
    """As libraries make them that stop the clock."""

    def isoformat(self, *args: Any) -> str:
        return "late"


def noted(text: str) -> Loud:
    found = Loud(text)
    found.note = "more than its text"  # type: ignore[attr-defined]
    return found


@dataclass(frozen=True)
class Size:
    width: int


def key(*values: Any) -> str:
    return digest(values, "here")


def loaded(model: Any = Product, db: str = "default", **fields: Any) -> Any:
    """An instance as a query makes it."""
    names = [field.attname for field in model._meta.concrete_fields]
    values = {"id": 1, "name": "a", "price": Decimal("1.00")} | fields
    names = [name for name in names if name in values]
    return model.from_db(db, names, [values[name] for name in names])


def made_anew() -> type:
    class Shop:
        pass

    return Shop


NOON = dt.datetime(2026, 10, 25, 2, 30)
BERLIN = ZoneInfo("Europe/Berlin")

DIFFERENT: list[tuple[Any, ...]] = [
    (), (None,), ("None",), ("",), (0,), (0.0,), (-0.0,), (False,), ("0",), (b"0",), (b"",),
    (1,), (True,), (1.0,), (Decimal(1),), (Decimal("1.0"),), (Level.ONE,), (Colour.RED,),
    (Colour.GREEN,), (Paint.RED,), ("a",), (mark_safe("a"),), (b"a",), ("a", "b"), ("ab",),
    (("a", "b"),), (["a", "b"],), ("ann", "x:y"), ("ann:x", "y"), ((), ()), (((),),),
    (frozenset({1}),), (frozenset({True}),), (frozenset({"a", "b"}),), (float("nan"),),
    (Decimal("nan"),), (float("inf"),), (Access(0),), (Mode(0),), (Access.READ,), (Mode.READ,),
    (Access.READ | Access.WRITE,), (Mode.READ | Mode.WRITE,), (uuid.UUID(int=1),),
    (dt.date(2026, 10, 25),), (NOON,), (NOON.replace(fold=1),), (NOON.replace(tzinfo=dt.UTC),),
    (NOON.replace(tzinfo=dt.UTC).astimezone(BERLIN),), (NOON.replace(tzinfo=BERLIN),),
    (NOON.replace(tzinfo=BERLIN, fold=1),),
    (NOON.replace(tzinfo=dt.timezone(dt.timedelta(0), "X")),),
    (NOON.time(),), (NOON.time().replace(fold=1),), (NOON.time().replace(tzinfo=dt.UTC),),
    (dt.timedelta(1),), (dt.timedelta(0, 1),), (dt.timedelta(0, 0, 1),), (Point(1, 2),),
    (Vector(1, 2),), ((1, 2),), (Product,), (CheapProduct,), (Category,), (Size,),
    (AnonymousUser(),), (Loud("a"),), (Loud("b"),), ("LOUD",), (Half(1),), (Late(NOON, 1),),
    (Late(NOON, 2),), (Late(NOON, 1, BERLIN),),
    (loaded(),), (loaded(CheapProduct),), (loaded(Category),), (loaded(db="other"),),
    (loaded(id=2),), (Product(pk=1, name="a", price=Decimal("1.00")),), (Product(pk=1),),
]  # fmt: skip


def test_different_arguments_have_different_keys() -> None:
    by_key: dict[str, Any] = {}
    for each in DIFFERENT:
        assert by_key.setdefault(key(*each), each) is each
        assert key(*each) == key(*each)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)
    | st.decimals() | st.uuids() | st.dates() | st.timedeltas() | st.times()
    | st.datetimes(timezones=st.none() | st.timezones()),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)  # fmt: skip


def written(value: Any) -> str:
    """As Python writes it, which tells all of these apart but the fold of a datetime."""
    if isinstance(value, list | tuple):
        return f"{type(value).__name__}({', '.join(map(written, value))})"
    return f"{type(value).__name__} {value!r} {getattr(value, 'fold', '')}"


@given(st.lists(PLAIN, min_size=2, max_size=6))
def test_keys_differ_as_what_python_writes_does(values: list[Any]) -> None:
    for one, two in combinations(values, 2):
        assert (key(one) == key(two)) is (written(one) == written(two))


def test_what_is_one_argument_has_one_key() -> None:
    assert key(Colour.CRIMSON) == key(Colour.RED)
    assert key(frozenset({"a", "b", "c"})) == key(frozenset({"c", "b", "a"}))
    assert key(10**5000) == key(10**5000)
    assert key(SimpleLazyObject(loaded)) == key(loaded())
    assert key(SimpleLazyObject(lambda: "a")) == key("a")
    assert key("\ud800") == key("\ud800") != key("?")


REFUSED: list[Any] = [
    object(), {}, {1}, iter(()), range(3), bytearray(b"a"), memoryview(b"a"), Size(1),
    noted("a"), Slotted("a"), Product(), Line(number=1), gettext_lazy("a"), made_anew(),
    made_anew()(), lambda: 1,
    enum.Enum("Local", "RED").RED, NOON.replace(tzinfo=type("Zone", (dt.tzinfo,), {})()),  # type: ignore[attr-defined]
    Product.objects, slice(1),
]  # fmt: skip


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_what_has_no_key_for_certain_is_refused_with_the_way_out(value: Any) -> None:
    for where in (value, (value,), [value]):
        with pytest.raises(TypeError, match=r"here: .*(key=|not saved|str\(\))"):
            key(where)


def test_a_model_of_a_migration_is_not_the_application_s() -> None:
    old: Any = ProjectState.from_apps(apps).apps.get_model("shop", "Product")
    with pytest.raises(TypeError, match="key="):
        key(loaded(old))


# Instances are what they are in memory.


def test_an_instance_changed_in_memory_is_another_argument() -> None:
    instance, annotated, cached = loaded(), loaded(), loaded()
    instance.name = "evil"
    annotated.total = 7
    cached._prefetched_objects_cache = {"categories": [loaded(Category)]}
    deferred = Product.from_db("default", ["id", "name"], [1, "a"])
    keys = [key(each) for each in (loaded(), instance, annotated, cached, deferred)]
    assert len(set(keys)) == len(keys)


def test_what_a_relation_holds_belongs_to_the_instance() -> None:
    def review(name: str) -> Review:
        found: Review = loaded(Review, product_id=1, stars=5)
        found.product = loaded(name=name)
        return found

    assert key(review("a")) == key(review("a"))
    assert len({key(review("a")), key(review("b")), key(loaded(Review, product_id=1))}) == 3


def test_instances_that_hold_each_other_have_keys() -> None:
    def ring(name: str) -> Any:
        one, two = loaded(), loaded(id=2, name=name)
        one._state.fields_cache["next"] = two
        two._state.fields_cache["next"] = one
        return one

    assert key(ring("b")) == key(ring("b")) != key(ring("c"))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": True}),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": "None"}]}),
        (Size(1), Size(2)),
        (Loud("a"), Loud("b")),
        (Loud("a"), "a"),
        ({1, 2}, {1, 3}),
        (bytearray(b"a"), b"a"),
        (memoryview(b"a"), memoryview(b"b")),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_a_field_holds_may_be_of_any_kind(one: Any, two: Any) -> None:
    def holding(value: Any) -> Product:
        product: Product = loaded(name=value)
        return product

    assert key(holding(one)) == key(holding(one)) != key(holding(two))


@pytest.mark.parametrize("value", [lambda: 1, Product.objects.all(), made_anew()()], ids=type)
def test_an_instance_that_holds_what_has_no_key_is_one_to_be_unsure_of(value: Any) -> None:
    instance = loaded()
    instance.extra = value
    with pytest.raises(UnsureError, match=r"extra"):
        key(instance)


def test_an_instance_of_another_database_is_one_to_be_unsure_of() -> None:
    with pytest.raises(UnsureError, match="'other'"):
        digest([loaded(db="other")], "here", using="default")
    related = loaded(Review, product_id=1)
    related._state.fields_cache["product"] = loaded(db="other")
    with pytest.raises(UnsureError, match="'other'"):
        digest([related], "here", using="default")
    assert digest([loaded()], "here", using="default") == key(loaded())


def test_a_chain_too_long_to_follow_is_one_to_be_unsure_of() -> None:
    first = last = loaded()
    for number in range(5000):
        last._state.fields_cache["next"] = loaded(id=number)
        last = last._state.fields_cache["next"]
    with pytest.raises(UnsureError, match="deep"):
        key(first)


def test_instances_are_found_wherever_they_are_handed() -> None:
    product = loaded()
    for where in (
        product,
        [product],
        (product,),
        {"x": product},
        SimpleLazyObject(lambda: product),
    ):
        assert [each.pk for each in instances_in([where])] == [1]
