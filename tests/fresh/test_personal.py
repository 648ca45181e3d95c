"""personal: a fragment that shows what is one reader's is not kept for another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.contrib.messages.storage.base import BaseStorage
from django.contrib.sessions.backends.base import SessionBase
from django.core.cache import caches
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.middleware.csrf import get_token
from django.template import Context, Engine, Library, RequestContext
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject

from django_pgnudge.fresh.seldom import forget

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


@pytest.fixture
def known(nudge_fake: NudgeFake) -> None:
    """This process knows the tokens."""
    make('{% nudged 60 known on "shop.Product" %}{% endnudged %}').render(Context())


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
    profile: dict[str, Any] = {"user": User(username="shown"), "messages": ["of a chat"]}
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
