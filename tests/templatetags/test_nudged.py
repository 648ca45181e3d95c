"""fragments: what a fragment shows is served to whom it was made for, as long as it is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.signals import request_finished, request_started
from django.db.models import Prefetch
from django.template import Context, Engine, TemplateSyntaxError
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy, override

from django_pgnudge import nudged
from django_pgnudge.errors import ConfigError
from tests.shop.models import Category, Product, Review

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake


@pytest.fixture(autouse=True)
def ready(emptied: None, no_connections_closed: None) -> None:
    """Each test begins with nothing kept, and sends requests of its own."""


ENGINE = Engine(libraries={"nudged": "django_pgnudge.templatetags.nudged"})


def make(source: str) -> Any:
    return ENGINE.from_string("{% load nudged %}" + source)


def render(source: str, **context: Any) -> str:
    """As a request in this thread does."""
    request_started.send(None)
    try:
        return str(make(source).render(Context(context)))
    finally:
        request_finished.send(None)


def kept(source: str, *contexts: dict[str, Any]) -> bool:
    """Whether what the last renders is what is kept of those before."""
    first, *_, last = [
        render(source, **context, text=str(number))
        for number, context in enumerate([contexts[0], *contexts])
    ]
    assert first == "0"
    return last != str(len(contexts))


SIDEBAR = '{% nudged 60 sidebar on "shop.Product" by who %}{{ text }}{% endnudged %}'


def test_a_fragment_is_kept_once_its_tokens_are_older_than_the_request(
    nudge_fake: NudgeFake,
) -> None:
    """What it shows was read by the view, before the tag could take any token."""
    assert render(SIDEBAR, text="old") == "old"
    assert render(SIDEBAR, text="kept") == "kept"
    assert render(SIDEBAR, text="not shown") == "kept"
    assert render(SIDEBAR, text="another", who="b") == "another"
    nudge_fake.changed(Product)
    assert render(SIDEBAR, text="new") == "new"


def test_a_fragment_that_was_read_before_the_change_is_never_kept(nudge_fake: NudgeFake) -> None:
    """The view has read; the change comes before the tag is rendered."""
    render(SIDEBAR, text="warm up")
    with nudged.reading():
        nudge_fake.changed(Product)
        assert make(SIDEBAR).render(Context({"text": "old"})) == "old"
    assert render(SIDEBAR, text="new") == "new"


def test_a_fragment_of_an_object_is_ended_by_its_row(nudge_fake: NudgeFake) -> None:
    card = "{% nudged 60 card on product %}{{ text }}{% endnudged %}"

    def show(pk: int, text: str) -> str:
        return render(card, product=Product(pk=pk), text=text)

    assert [show(1, "a"), show(1, "b"), show(1, "c"), show(2, "d")] == ["a", "b", "b", "d"]
    nudge_fake.changed(Product, pk=2)
    assert show(1, "e") == "b"
    nudge_fake.changed(Product, pk=1)
    assert show(1, "f") == "f"


@pytest.mark.parametrize(
    "source",
    [
        '{% nudged 60 x "shop.Product" %}{% endnudged %}',
        "{% nudged 60 x on by y %}{% endnudged %}",
        "{% nudged 60 x on shop %}{% endnudged %}",
        '{% nudged soon x on "shop.Product" %}{% endnudged %}',
        '{% nudged 60 x on "shop.Product" using="nowhere" %}{% endnudged %}',
    ],
)
def test_a_tag_that_is_written_wrong_says_so(source: str) -> None:
    with pytest.raises(TemplateSyntaxError, match="nudged"):
        render(source)


# The name.


@pytest.fixture
def known(nudge_fake: NudgeFake) -> None:
    """This process knows the tokens."""
    render('{% nudged 60 known on "shop.Product" %}{% endnudged %}')


BY_TWO = '{% nudged 60 x on "shop.Product" by one two %}{{ text }}{% endnudged %}'


class Named:
    def __init__(self, name: str) -> None:
        self.name = name

    def __str__(self) -> str:
        return "one name"


VALUES: list[tuple[Any, Any]] = [
    ("ann", "x:y"), ("ann:x", "y"), (None, ""), ("None", ""), ("", None), ("", ""), (1, ""),
    ("1", ""), (True, ""), (mark_safe("1"), ""), ({"a": 1}, ""), ({"a": 2}, ""), ([1], ""),
    ({1}, ""), (Named("ann"), ""), (Named("bob"), ""), (AnonymousUser(), ""), ("AnonymousUser", ""),
    (Product(pk=1), ""), (Product(pk=2), ""), (Category(pk=1), ""),
]  # fmt: skip


@pytest.mark.usefixtures("known")
def test_each_value_after_by_has_a_rendering_of_its_own() -> None:
    for turn in range(2):
        seen = [
            render(BY_TWO, one=one, two=two, text=str(number) if not turn else "not shown")
            for number, (one, two) in enumerate(VALUES)
        ]
        assert seen == [str(number) for number in range(len(VALUES))]


@pytest.mark.usefixtures("known")
def test_a_value_that_cannot_be_told_from_others_is_rendered_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Local:
        pass

    for value in (Local(), Product.objects.all()):
        assert not kept(BY_TWO, *[{"one": value, "two": ""}] * 3)
    assert caplog.text.count("fragment 'x'") == 1
    assert "not cached" in caplog.text


@pytest.mark.usefixtures("known")
def test_a_lazy_string_is_what_it_says_in_the_reader_s_language() -> None:
    for turn in ("", "not shown"):
        for language, word in [("en", "Yes"), ("de", "Ja")]:
            with override(language):
                value = gettext_lazy("Yes")
                assert render(BY_TWO, one=value, two="", text=turn or word) == word


@pytest.mark.usefixtures("known")
def test_two_fragments_of_one_name_are_two() -> None:
    one = '{% nudged 60 x on "shop.Product" %}one{% endnudged %}'
    two = '{% nudged 60 x on "shop.Product" %}two{% endnudged %}'
    by = '{% nudged 60 x on "shop.Product" by a %}{{ a }}{{ b }}{% endnudged %}'
    seen = [render(each, a=1, b=b) for each, b in [(by, 2), (by.replace("by a", "by b"), 1)] * 2]
    assert seen == ["12", "11"] * 2
    safe = '{% nudged 60 x on "shop.Product" %}{{ text }}{% endnudged %}'
    assert [render(each) for each in (one, two, one, two)] == ["one", "two", "one", "two"]
    off = "{% autoescape off %}" + safe + "{% endautoescape %}"
    seen = [render(each, text="<b>") for each in (off, safe, off, safe)]
    assert seen == ["<b>", "&lt;b&gt;", "<b>", "&lt;b&gt;"]


def test_an_object_is_what_it_holds_in_memory() -> None:
    """A page with an invalid form shows the instance as the form has left it."""
    card = "{% nudged 60 card on product %}{{ product.name }}{% endnudged %}"

    def loaded(db: str = "default", **changed: str) -> Product:
        product = Product.from_db(db, ["id", "name"], [1, "kept"])
        vars(product).update(changed)
        return product

    for _ in range(3):
        assert render(card, product=loaded()) == "kept"
        assert render(card, product=loaded(name="never saved")) == "never saved"
    assert render(card, product=loaded(db="other", name="its own")) == "its own"


# What it stands on.


BEST = "{% nudged 60 x on found by who %}{{ text }}{% endnudged %}"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "changed", [Product, Category, Review, Product.categories.through], ids=lambda m: m.__name__
)
def test_a_queryset_s_fragment_is_ended_by_each_table_it_reads(
    nudge_fake: NudgeFake, changed: Any
) -> None:
    found = Product.objects.filter(categories__name="a").prefetch_related("review_set")
    seen = [render(BEST, found=found, text=text) for text in ("0", "1", "2")]
    assert seen == ["0", "1", "1"]
    nudge_fake.changed(changed)
    assert render(BEST, found=found, text="3") == "3"


@pytest.mark.django_db
def test_querysets_are_told_apart_by_what_they_ask() -> None:
    def mine(name: str) -> Any:
        return Product.objects.filter(name=name)

    def prefetching(name: str) -> Any:
        return Category.objects.prefetch_related(Prefetch("product_set", mine(name)))

    for ask in (mine, prefetching):
        for turn in range(3):
            for name in ("ann", "bob"):
                text = name if turn < 2 else "not shown"
                assert render(BEST, found=ask(name), text=text) == name


@pytest.mark.django_db
def test_rows_that_are_loaded_are_told_apart_by_what_they_hold() -> None:
    """As a view leaves them that writes each reader's price into them."""

    def priced(price: int) -> Any:
        Product.objects.get_or_create(name="a")
        found = Product.objects.all()
        for product in found:
            product.price = price
        return found

    for turn in range(3):
        for price in (1, 2):
            text = str(price) if turn < 2 else "not shown"
            assert render(BEST, found=priced(price), text=text) == str(price)


@pytest.mark.django_db
def test_a_manager_is_its_queryset(nudge_fake: NudgeFake) -> None:
    source = "{% nudged 60 x on product.categories %}{{ text }}{% endnudged %}"
    product = Product(pk=1)
    assert [render(source, product=product, text=text) for text in "012"] == ["0", "1", "1"]
    nudge_fake.changed(Category)
    assert render(source, product=product, text="3") == "3"


@pytest.mark.django_db
def test_a_queryset_whose_tables_cannot_be_told_is_rendered_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw = Product.objects.raw("SELECT * FROM shop_product")
    extra = Product.objects.extra(where=["id IN (SELECT product_id FROM shop_review)"])
    assert not kept(BEST, *[{"found": raw}] * 3)
    assert not kept(BEST, *[{"found": extra}] * 3)
    assert caplog.text.count("fragment 'x'") == 1
    assert 'on "shop.Product"' in caplog.text


@pytest.mark.parametrize("empty", [None, "", []], ids=repr)
def test_nothing_after_on_is_an_error(empty: Any) -> None:
    with pytest.raises((TemplateSyntaxError, ConfigError), match=r"nothing|depends on"):
        render(BEST, found=empty)
