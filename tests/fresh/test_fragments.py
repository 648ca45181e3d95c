"""fragments: what a fragment shows is served to whom it was made for, as long as it is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.messages.storage.base import BaseStorage
from django.contrib.sessions.backends.base import SessionBase
from django.core.cache import caches
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.db.models import Prefetch
from django.middleware.csrf import get_token
from django.template import Context, Engine, Library, RequestContext, TemplateSyntaxError
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy, override

from django_pgnudge import nudged
from django_pgnudge.errors import ConfigError
from django_pgnudge.fresh.seldom import forget
from tests.shop.models import Category, Product, Review

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_pgnudge.testing import NudgeFake


@pytest.fixture(autouse=True)
def empty_cache(nudge_fake: NudgeFake) -> None:
    forget()
    caches["default"].clear()
    nudge_fake.lease()


@pytest.fixture(autouse=True)
def no_connections_closed() -> Iterator[None]:
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    yield
    request_started.connect(close_old_connections)
    request_finished.connect(close_old_connections)


def personal(request: Any) -> dict[str, Any]:
    """As the context processors of Django and of django-csp do."""
    return {
        name: getattr(request, attribute)
        for name, attribute in
        [("user", "user"), ("messages", "_messages"), ("csp_nonce", "csp_nonce")]
        if hasattr(request, attribute)
    }  # fmt: skip


register = Library()


@register.simple_tag(takes_context=True)
def token_of(context: Any) -> str:
    return get_token(context["request"])


@register.inclusion_tag(Engine().from_string("{% csrf_token %}"), takes_context=True)
def form(context: Any) -> dict[str, Any]:
    return {}


@register.inclusion_tag(Engine().from_string("{{ who.username }}"), takes_context=True)
def greeting(context: Any) -> dict[str, Any]:
    return {"who": context["user"]}


ENGINE = Engine(
    libraries={"nudged": "django_pgnudge.templatetags.nudged", "here": __name__},
    loaders=[("django.template.loaders.locmem.Loader", {"token.html": "{% csrf_token %}"})],
    context_processors=["django.template.context_processors.request", f"{__name__}.personal"],
)


def make(source: str) -> Any:
    return ENGINE.from_string("{% load nudged here %}" + source)


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


# What is one reader's.


class Session(SessionBase):
    def load(self) -> dict[str, Any]:
        return {"cart": "3 things"}


class Messages(BaseStorage):
    def _get(self, *args: Any, **kwargs: Any) -> Any:
        return ["told"], True

    def _store(self, *args: Any, **kwargs: Any) -> Any:
        return []


def a_request(who: str) -> Any:
    request: Any = RequestFactory().get("/")
    request.session = Session()
    request._messages = Messages(request)
    request.csp_nonce = SimpleLazyObject(lambda: f"nonce of {who}")

    def user() -> Any:
        request.session.get("user")
        return User.from_db("default", ["id", "username"], [len(who), who])

    request.user = SimpleLazyObject(user)
    return request


def show(body: str, who: str, by: str = "", **context: Any) -> str:
    request_started.send(None)
    try:
        request = context.pop("request", None) or a_request(who)
        source = '{% nudged 60 mine on "shop.Product" ' + by + " %}" + body + "{% endnudged %}"
        with (made := RequestContext(request)).push(**{"text": who, **context}):
            return str(make(source).render(made))
    finally:
        request_finished.send(None)


PERSONAL = {
    "csrf_token": "{% csrf_token %}",
    "the variable": "{{ csrf_token }}",
    "an include": '{% include "token.html" %}',
    "an inclusion tag": "{% form %}",
    "get_token": "{% token_of %}",
    "messages": "{% for each in messages %}{{ each }}{% endfor %}",
    "whether there are messages": "{% if messages %}yes{% endif %}",
    "nonce": "{{ csp_nonce }}",
    "nonce of the request": "{{ request.csp_nonce }}",
    "user": "{{ user.username }}",
    "user of the request": "{% if request.user.is_authenticated %}yes{% endif %}",
    "session": "{{ request.session.cart }}",
    "cookies": "{{ request.COOKIES.theme }}",
    "user of an inclusion tag": "{% greeting %}",
    "user in a fragment": '{% nudged 60 in on "shop.Product" by user.pk %}{% endnudged %}',
    "user not named": '{% nudged 60 in on "shop.Product" %}{{ user.username }}{% endnudged %}',
    "token in a fragment": '{% nudged 60 in on "shop.Product" %}{% csrf_token %}{% endnudged %}',
}


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", PERSONAL)
@pytest.mark.parametrize("used", [False, True], ids=["first", "used before"])
def test_what_is_one_reader_s_is_not_kept(
    name: str, used: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def shown(who: str) -> str:
        request = a_request(who)
        if used:
            make("".join(PERSONAL.values())).render(RequestContext(request))
        return show(PERSONAL[name] + "{{ text }}", who, request=request)

    shown("ann")
    for who in ("ann", "robert", "ann"):
        told = shown(who)
        assert [each for each in ("ann", "robert") if each in told] == [who]
    assert caplog.text.count("fragment 'mine'") == 1
    assert "not cached" in caplog.text


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("body", "by"),
    [
        ("nothing", ""),
        ("{{ request.path }}", ""),
        ("{{ user.username }}", "by user.pk"),
        ("{{ user.username }}", "by request.user"),
        ("{{ request.user.username }}", "by user.pk"),
        ("{% if request.user.is_authenticated %}{% endif %}", "by user.is_authenticated"),
        ("{{ request.session.cart }}", "by request.session.cart"),
        ("{{ request.COOKIES.theme }}", "by request.COOKIES.theme"),
        ('{% nudged 60 in on "shop.Product" by user.pk %}{% endnudged %}', "by user.pk"),
    ],
)
def test_what_is_named_after_by_or_nobody_s_is_kept(body: str, by: str) -> None:
    assert show(body + "{{ text }}", "ann", by).endswith("ann")
    assert show(body + "{{ text }}", "ann", by, text="not shown").endswith("ann")


@pytest.mark.usefixtures("known")
def test_names_that_a_view_gives_to_something_else_are_nobody_s() -> None:
    profile = {"user": User(username="shown"), "messages": ["of a chat"]}
    body = "{{ user.username }}{% for each in messages %}{{ each }}{% endfor %}{{ text }}"
    assert show(body, "ann", **profile) == "shownof a chatann"
    assert show(body, "ann", **profile, text="not shown") == "shownof a chatann"


@pytest.mark.usefixtures("known")
def test_a_request_that_wraps_another_is_watched_too() -> None:
    """As Django REST framework's does, whose user is a property."""

    class Wrapping:
        def __init__(self, inner: Any) -> None:
            self._request = inner
            self._user = inner.user

        @property
        def user(self) -> Any:
            return self._user

        def __getattr__(self, name: str) -> Any:
            return getattr(self._request, name)

    for body in ("{{ request.user.username }}", "{{ request.session.cart }}"):
        for who in ("ann", "ann", "robert"):
            shown = show(body + "{{ text }}", who, request=Wrapping(a_request(who)))
            assert shown.endswith(who)


@pytest.mark.usefixtures("known")
def test_what_the_request_knows_is_as_before_and_still_told_to_the_middleware() -> None:
    request = a_request("ann")
    before = dict(vars(request))
    show("{% csrf_token %}{{ user.username }}{{ csp_nonce }}", "ann", request=request)
    assert {name: vars(request)[name] for name in before} == before
    assert all(vars(request)[name] is before[name] for name in before)
    assert request.META["CSRF_COOKIE_NEEDS_UPDATE"]
    assert request.session.accessed
    assert not request._messages.used
    show("nothing", "ann", request=request)
    assert request.META["CSRF_COOKIE_NEEDS_UPDATE"]


def test_a_fragment_that_fails_leaves_the_request_as_it_was() -> None:
    request = a_request("ann")
    before = dict(vars(request))
    with pytest.raises(ZeroDivisionError):
        show("{{ fail }}", "ann", request=request, fail=lambda: 1 / 0)
    assert all(vars(request)[name] is before[name] for name in before)


@pytest.mark.usefixtures("known")
def test_a_function_that_is_called_in_a_fragment_is_kept_by_itself() -> None:
    assert [nudged.get_or_set("k", lambda: 1, depends_on=[Product]) for _ in "ab"] == [1, 1]
