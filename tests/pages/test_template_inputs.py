"""personal: what a fragment shows of its reader is shown to nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.contrib.messages.storage.base import BaseStorage
from django.contrib.sessions.backends.base import SessionBase
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import request_finished, request_started
from django.middleware.csrf import get_token
from django.template import Context, Engine, Library, RequestContext
from django.test import RequestFactory, override_settings
from django.urls import path, resolve
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake


@pytest.fixture(autouse=True)
def ready(emptied: None, no_connections_closed: None) -> None:
    """Each test begins with nothing kept, and sends requests of its own."""


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
        return {"cart": f"things of {self.session_key}"}


class Messages(BaseStorage):
    def _get(self, *args: Any, **kwargs: Any) -> Any:
        return ["told"], True

    def _store(self, *args: Any, **kwargs: Any) -> Any:
        return []


def a_request(who: str) -> Any:
    headers = {"Cookie": f"theme={who}", "X-Who": who}
    request: Any = RequestFactory().get("/", headers=headers)
    request.session = Session(f"session of {who}")
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


NOBODY_ELSE_S = {
    "csrf_token": "{% csrf_token %}",
    "the variable": "{{ csrf_token }}",
    "an include": '{% include "token.html" %}',
    "an inclusion tag": "{% form %}",
    "get_token": "{% token_of %}",
    "messages": "{% for each in messages %}{{ each }}{% endfor %}",
    "whether there are messages": "{% if messages %}yes{% endif %}",
    "nonce": "{{ csp_nonce }}",
    "nonce of the request": "{{ request.csp_nonce }}",
    "token in a fragment": '{% nudged 60 in on "shop.Product" %}{% csrf_token %}{% endnudged %}',
}

ONE_READER_S = {
    "user": "{{ user.username }}",
    "user of the request": "{{ request.user.username }}",
    "user by another name": "{{ me.username }}",
    "session": "{{ request.session.cart }}",
    "cookies": "{{ request.COOKIES.theme }}",
    "cookie in META": "{{ request.META.HTTP_COOKIE }}",
    "cookie in headers": "{{ request.headers.Cookie }}",
    "header": "{{ request.META.HTTP_X_WHO }}",
    "environ": "{{ request.environ.HTTP_X_WHO }}",
    "attribute": "{{ request.account.name }}",
    "user of an inclusion tag": "{% greeting %}",
    "user in a fragment": '{% nudged 60 in on "shop.Product" by user.username %}'
    "{{ user.username }}{% endnudged %}",
    "user not named": '{% nudged 60 in on "shop.Product" %}{{ user.username }}{% endnudged %}',
    "user inside and outside": '{{ user.pk }}{% nudged 60 in on "shop.Product" %}'
    "{{ user.username }}{% endnudged %}",
}


def request_of(who: str, used: bool) -> Any:
    request = a_request(who)
    request.account = {"name": who}
    if used:
        every = "".join([*NOBODY_ELSE_S.values(), *ONE_READER_S.values()])
        make(every).render(RequestContext(request, {"me": request.user}))
    return request


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", NOBODY_ELSE_S)
@pytest.mark.parametrize("used", [False, True], ids=["first", "used before"])
def test_what_is_nobody_else_s_is_not_kept(
    name: str, used: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def shown(who: str) -> str:
        return show(NOBODY_ELSE_S[name] + "{{ text }}", who, request=request_of(who, used))

    shown("ann")
    for who in ("ann", "robert", "ann"):
        assert shown(who).endswith(who)
    assert caplog.text.count("fragment 'mine'") == 1
    assert "not cached" in caplog.text


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", ONE_READER_S)
@pytest.mark.parametrize("used", [False, True], ids=["first", "used before"])
def test_what_is_one_reader_s_is_kept_for_that_reader(name: str, used: bool) -> None:
    runs: list[str] = []

    def shown(who: str) -> str:
        request = request_of(who, used)
        context = {"me": request.user, "ran": lambda: runs.append(who) or ""}  # type: ignore[func-returns-value]
        return show(ONE_READER_S[name] + "{{ ran }}", who, request=request, **context)

    shown("ann")
    told = [(who, shown(who)) for who in ("ann", "robert") * 3]
    for who, text in told:
        assert [each for each in ("ann", "robert") if each in text] == [who]
    assert runs.count("robert") <= 2
    assert len(runs) < len(told)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("body", "by"),
    [
        ("nothing", ""),
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
        for who in ("ann", "ann", "robert", "ann"):
            assert who in show(body, who, request=Wrapping(a_request(who)))


@pytest.mark.usefixtures("known")
def test_what_the_request_knows_is_as_before_and_still_told_to_the_middleware() -> None:
    request = a_request("ann")
    before, environ = dict(vars(request)), dict(request.META)
    show("{% csrf_token %}{{ user.username }}{{ csp_nonce }}", "ann", request=request)
    assert is_as(request, before)
    assert {name: request.META[name] for name in environ} == environ
    assert request.META["CSRF_COOKIE_NEEDS_UPDATE"]
    assert request.session.accessed
    assert not request._messages.used
    show("nothing", "ann", request=request)
    assert request.META["CSRF_COOKIE_NEEDS_UPDATE"]


def is_as(request: Any, before: dict[str, Any]) -> bool:
    """Whether all that was on it is; the mappings stand for those that were there."""
    mappings = {"META", "COOKIES", "environ", "headers"}
    is_same = all(vars(request)[name] is before[name] for name in before if name not in mappings)
    return is_same and type(request) is WSGIRequest


def test_a_fragment_that_fails_leaves_the_request_as_it_was() -> None:
    request = a_request("ann")
    before = dict(vars(request))
    with pytest.raises(ZeroDivisionError):
        show("{{ fail }}", "ann", request=request, fail=lambda: 1 / 0)
    assert is_as(request, before)


@pytest.mark.usefixtures("known")
def test_a_fragment_asks_nothing_of_the_request_that_fails() -> None:
    """What it has read for one reader, it does not show every other."""
    body = "{% if known %}{{ request.account.name }}{% else %}nobody{% endif %}"

    def fail() -> Any:
        raise LookupError("there is no account")

    def shown(known: bool) -> str:
        request = a_request("ann")
        request.account = SimpleLazyObject((lambda: {"name": "ann"}) if known else fail)
        return show(body, "ann", request=request, known=known)

    for known in (True, True, False, True):
        assert shown(known) == ("ann" if known else "nobody")


def test_what_is_written_to_the_request_reaches_the_server() -> None:
    request = a_request("ann")
    environ = request.environ

    def write() -> str:
        request.META["REMOTE_USER"] = "ann"
        request.META.setdefault("more", 1)
        del request.META["HTTP_X_WHO"]
        return str(request.META.pop("HTTP_COOKIE"))

    assert show("{{ write }}", "ann", request=request, write=write) == "theme=ann"
    assert (environ["REMOTE_USER"], environ["more"]) == ("ann", 1)
    assert not {"HTTP_X_WHO", "HTTP_COOKIE"} & environ.keys()


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("name", ["path", "GET.q", "get_full_path"])
def test_a_fragment_is_of_the_address_if_it_shows_it(name: str) -> None:
    def shown(who: str) -> str:
        request: Any = RequestFactory().get(f"/{who}/", {"q": who})
        request.GET  # noqa: B018 - as middleware asks for it
        return show("{{ request." + name + " }}", who, request=request)

    shown("ann")
    for who in ("ann", "robert", "ann"):
        assert who in shown(who)


@pytest.mark.usefixtures("known")
def test_a_fragment_with_links_is_one_for_all_pages() -> None:
    """Django asks the address for the namespace of each."""
    runs: list[int] = []
    link = "{% url 'there' pk=1 %}{{ ran }}"
    for pk in range(4):
        request = a_request("ann")
        with override_settings(ROOT_URLCONF=__name__):
            request.resolver_match = resolve(f"/there/{pk}/")
            show(link, "ann", request=request, ran=lambda: runs.append(1))
    assert len(runs) == 2
    body = "{{ request.resolver_match.kwargs.pk }}"
    for pk in (1, 1, 2, 1):
        request = a_request("ann")
        with override_settings(ROOT_URLCONF=__name__):
            request.resolver_match = resolve(f"/there/{pk}/")
        assert show(body, "ann", request=request) == f"{pk}"


@pytest.mark.usefixtures("known")
def test_a_fragment_is_of_the_language_and_the_time_zone() -> None:
    for turn in range(2):
        for language, zone in (("en", "Europe/Paris"), ("de", "Asia/Tokyo")):
            with translation.override(language), timezone.override(zone):
                text = f"{language} {zone}" if not turn else "not shown"
                assert show("{{ text }}", "ann", text=text) == f"{language} {zone}"


urlpatterns = [path("there/<int:pk>/", lambda request, pk: None, name="there")]  # type: ignore[arg-type,return-value]
