"""noted: a view finds its request as it was, and a page that is all's stays all's."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import User
from django.contrib.sessions.backends.cache import SessionStore as CachedSession
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.cache import caches
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import request_finished, request_started
from django.middleware.csrf import get_token, rotate_token
from django.template import Context, Engine, Library
from django.utils.functional import SimpleLazyObject

from tests.pages.left import USERS, Shown, a_request, same, text

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def ready(emptied: None, no_connections_closed: None) -> None:
    """Each test begins with nothing kept, and sends requests of its own."""


def changed_meta(request: Any) -> str:
    request.META["HTTP_ACCEPT"] = "application/json"
    request.META["HTTP_COOKIE"] = "a=2"
    return f"{request.accepts('text/html')} {request.headers['Accept']} {request.COOKIES['a']}"


def merged(request: Any) -> Any:
    request.META |= {"HTTP_X": "1"}
    request.COOKIES.clear()
    return request.META["HTTP_X"], dict(request.COOKIES)


def logged_out(request: Any) -> Any:
    request.session = SessionStore()
    request.session["a"] = 1
    request.session.cycle_key()
    request.session.flush()
    return request.session.is_empty()


def lazy_session(request: Any) -> Any:
    request.session = SimpleLazyObject(SessionStore)
    request.session["a"] = 1
    return request.session.get("a")


AS_WITHOUT: dict[str, Callable[[Any], Any]] = {
    "META that is changed before it is read": changed_meta,
    "what is merged and cleared": merged,
    "a copy": lambda request: copy.copy(request).path,
    "a deep copy of META": lambda request: copy.deepcopy(request.META["HTTP_COOKIE"]),
    "pickled cookies": lambda request: pickle.loads(pickle.dumps(request.COOKIES)),
    "pickled headers": lambda request: pickle.loads(pickle.dumps(request.headers))["Accept"],
    "cached cookies": lambda request: caches["default"].get_or_set("cookies", request.COOKIES),
    "a session that ends": logged_out,
    "a lazy session": lazy_session,
    "a token that is rotated": rotate_token,
    "another encoding": lambda request: setattr(request, "encoding", "latin-1"),
    "what it is": lambda request: (isinstance(request, WSGIRequest), type(request).__name__),
    "how it is shown": repr,
}


@pytest.mark.parametrize("way", ["page", "tagged"])
@pytest.mark.parametrize("name", AS_WITHOUT)
def test_a_view_finds_what_it_finds_without_us(name: str, way: str) -> None:
    look = AS_WITHOUT[name]
    expected = f"{look(a_request(Cookie='a=1', Accept='text/html'))}"
    shown = Shown(look)
    for _ in range(3):
        request = a_request(Cookie="a=1", Accept="text/html")
        assert text(getattr(shown, way)(request)) == expected


def test_a_session_that_is_pickled_is_one_of_its_kind() -> None:
    def look(request: Any) -> Any:
        found = pickle.loads(pickle.dumps(request.session))
        return type(found) is SessionStore, found.get("a")

    request = a_request()
    request.session = SessionStore()
    request.session["a"] = 1
    assert text(Shown(look).page(request)) == "(True, 1)"


def test_what_is_deeply_copied_notes_nothing() -> None:
    shown = Shown(lambda request: copy.deepcopy(request.session)["a"])
    for value in ("ann", "bob"):
        request = a_request()
        request.session = SessionStore()
        request.session["a"] = value
        assert text(shown.page(request)) == value


class Cart:
    def __init__(self, request: Any) -> None:
        self.session = request.session

    def shown(self) -> str:
        return str(self.session.get("who", ""))


def with_cart(request: Any, who: str) -> None:
    request.session = CachedSession("a key of eight")
    request.session._session_cache = {"who": "all"}
    request.cart = Cart(request)


def with_user(request: Any, who: str) -> None:
    """As `login_required` leaves it, above a page."""
    request.user = SimpleLazyObject(lambda: USERS[who])
    assert request.user.is_authenticated is bool(who)


def with_changed_session(request: Any, who: str) -> None:
    request.session = CachedSession()
    request.session["seen"] = who


SHARED: dict[str, tuple[Callable[[Any, str], Any], Callable[[Any], Any]]] = {
    "a user that was asked for above, and is handed on": (
        with_user,
        lambda request: [request.user],
    ),
    "a token that was made above": (lambda request, who: get_token(request), same),
    "a session that was changed above": (with_changed_session, same),
    "an object that holds the one session": (with_cart, lambda request: request.cart.shown()),
}


@pytest.mark.parametrize("name", SHARED)
def test_what_happened_above_a_page_does_not_make_it_one_reader_s(name: str) -> None:
    left, look = SHARED[name]
    shown = Shown(lambda request: look(request) and "all")
    for who in ("ann", "bob", "", "ann"):
        request = a_request()
        left(request, who)
        assert text(shown.page(request)) == "all"
    assert len(shown.runs) == 1


def test_django_s_own_user_that_nobody_asked_for_is_no_input() -> None:
    """Though a context processor hands it on."""
    shown = Shown(lambda request: [request.user] and "all")
    for asked_for in (False, True, False):
        request = a_request()
        request.session = CachedSession()
        AuthenticationMiddleware(same).process_request(request)
        assert not asked_for or request.user.is_anonymous
        shown.page(request)
    assert len(shown.runs) == 1


def test_a_user_that_was_asked_for_above_is_read_when_it_is_shown() -> None:
    shown = Shown(lambda request: request.user.username)
    for who in ("ann", "bob", "", "ann"):
        request = a_request()
        with_user(request, who)
        assert text(shown.page(request)) == who
    assert len(shown.runs) == 3


register = Library()


@register.simple_tag(takes_context=True)
def everything(context: Any) -> str:
    return str(context.flatten()["theme"])


ENGINE = Engine(libraries={"nudged": "django_pgnudge.templatetags.nudged", "here": __name__})


def rendered(body: str, request: Any, **context: Any) -> str:
    source = "{% load nudged here %}" + body
    request_started.send(None)
    try:
        made = ENGINE.from_string(source)
        return str(
            made.render(
                Context({"request": request, "user": getattr(request, "user", None), **context})
            )
        )
    finally:
        request_finished.send(None)


def fragment(body: str, by: str = "") -> str:
    return '{% nudged 60 own on "shop.Product" ' + by + "%}" + body + "{% endnudged %}"


FILTERS = [
    '{{ flags|json_script:"f" }}', "{{ balance }}", '{{ balance|add:"1" }}', "{{ flags|pprint }}",
    '{{ balance|stringformat:".1f" }}', "{{ say }}", "{{ day|timesince }}",
    "{% if user is request.user %}same{% endif %}", "{{ flags.a }}", "{{ names|join:',' }}",
]  # fmt: skip


@pytest.mark.parametrize("body", FILTERS)
def test_a_fragment_finds_in_its_context_what_it_finds_without_us(body: str) -> None:
    def asked() -> tuple[Any, dict[str, Any]]:
        request = a_request()
        request.user = USERS["ann"]
        left = {
            "flags": {"a": 1}, "balance": Decimal("2.5"), "names": ["x", "y"],
            "say": lambda: "said", "day": dt.datetime(2020, 1, 1, tzinfo=dt.UTC),
        }  # fmt: skip
        vars(request).update(left)
        return request, left

    request, left = asked()
    expected = rendered(body, request, **left)
    for _ in range(3):
        request, left = asked()
        assert rendered(fragment(body), request, **left) == expected


@pytest.mark.parametrize("body", ["{{ theme }}", "{% everything %}", "{{ number }}"])
def test_a_fragment_is_of_what_a_context_processor_hands_on_of_the_request(body: str) -> None:
    for who in ("ann", "ann", "bob", "ann"):
        request = a_request()
        request.theme, request.number = f"theme of {who}", 1000 + len(who) * (who == "bob")
        expected = f"theme of {who}" if "number" not in body else f"{request.number}"
        context = {"theme": request.theme, "number": request.number}
        assert rendered(fragment(body), request, **context) == expected


def test_a_name_after_by_stands_for_the_request_s_user_only_if_it_is_that() -> None:
    """A profile's page calls another's profile "user"."""
    shown = User(pk=9, username="shown")
    for who in ("ann", "ann", "bob", "ann"):
        request = a_request()
        request.user = USERS[who]
        body = fragment("{{ request.user.username }}", "by user.pk ")
        assert rendered(body, request, user=shown) == who


@pytest.mark.parametrize(
    ("by", "body"),
    [
        ("by request.COOKIES.theme ", "{{ request.COOKIES.who }}"),
        ("by request.META.HTTP_X_THEME ", "{{ request.META.HTTP_X_WHO }}"),
        ("by request.headers.X_Theme ", "{{ request.META.HTTP_X_WHO }}"),
    ],
)
def test_a_name_after_by_stands_for_that_item_and_no_other(by: str, body: str) -> None:
    for who in ("ann", "ann", "bob", "ann"):
        headers = {"Cookie": f"theme=one; who={who}", "X-Theme": "one", "X-Who": who}
        assert rendered(fragment(body, by), a_request(**headers)) == who


def test_a_user_that_a_fragment_has_shown_is_read_again_in_the_one_inside() -> None:
    body = fragment(
        "{{ user.pk }}" + '{% nudged 60 in on "shop.Product" %}{{ user.username }}{% endnudged %}',
        "by user.pk ",
    )
    for who in ("ann", "ann", "bob", "ann"):
        request = a_request()
        request.user = SimpleLazyObject(partial(USERS.get, who))
        assert rendered(body, request).endswith(who)
