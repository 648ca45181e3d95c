"""`NudgedSiteMiddleware`: who shares a page, and that nobody is shown another's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from django.apps import apps
from django.contrib import messages
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.contrib.sites.shortcuts import get_current_site
from django.db import connection
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.test import AsyncClient, Client
from django.test.utils import override_settings
from django.utils import timezone, translation
from django.views.decorators.vary import vary_on_cookie

from tests.pages import small_site
from tests.pages.small_site import (
    AUTH,
    LOCALE,
    SESSIONS,
    SITE,
    Visitor,
    is_kept,
    learn,
    log_out,
    products,
    ready,
    runs,
    says,
    shown,
    shows,
    somebody,
    text_of,
)
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django_pgnudge.testing import NudgeFake


@pytest.fixture(autouse=True)
def site(real_sessions: NudgeFake, settings: Any) -> None:
    ready(real_sessions, settings)


@pytest.mark.parametrize("browser", [Client, AsyncClient])
def test_visitors_with_cookies_of_sessions_and_tokens_share_a_page_that_asks_for_neither(
    browser: type[Client | AsyncClient],
) -> None:
    shows(lambda request: "")
    learn()
    first = Visitor(browser).get()
    assert shown(first)[1] == "miss"
    assert "Cookie" not in first.headers.get("Vary", "")
    for name in ("a" * 32, "b" * 32):
        assert says(Visitor(browser, sessionid=name, csrftoken=name)) == "hit"


USES: dict[str, Callable[[Any], object]] = {
    "the session": lambda request: request.session.get("name"),
    "the key of the session": lambda request: request.session.session_key,
    "whether there is a session": lambda request: request.session.is_empty(),
    "the key, by its method": lambda request: request.session._get_session_key(),
    "a copy of the session": lambda request: dict(request.session.items()),
    "the user": lambda request: request.user.username,
    "whether it is a user": lambda request: request.user.is_authenticated,
    "the session's cookie": lambda request: request.COOKIES.get("sessionid"),
    "the token's cookie": lambda request: request.COOKIES.get("csrftoken"),
    "the token's secret": lambda request: request.META.get("CSRF_COOKIE"),
    "whether there is a token": lambda request: "CSRF_COOKIE" in request.META,
    "the header of cookies": lambda request: request.headers.get("Cookie"),
    "all headers": lambda request: dict(request.headers),
    "all cookies": lambda request: sorted(request.COOKIES.items()),
    "the environment": lambda request: request.environ.get("HTTP_COOKIE"),
    "messages": lambda request: [str(each) for each in messages.get_messages(request)],
    "the token": get_token,
    "a user in a template": lambda request: HttpResponse(
        engines["django"].from_string("{{ user.username }}").render({}, request)
    ),
    "a token in a template": lambda request: HttpResponse(
        engines["django"].from_string("{{ csrf_token }}").render({}, request)
    ),
}


@pytest.mark.parametrize("when", ["from the first", "after pages were kept"])
@pytest.mark.parametrize("use", USES)
def test_what_a_page_uses_of_its_reader_is_never_another_s(
    use: str, when: str, real_sessions: NudgeFake, settings: Any
) -> None:
    """Each reader sees what the view makes of their cookies without the middleware."""
    names = ("ann", "bob")
    visitors = [*map(somebody, names), Visitor()]
    for visitor, name in zip(visitors[:2], names, strict=True):
        session = visitor.client.session
        session["name"] = name
        session.save()
    if when == "after pages were kept":
        shows(lambda request: "")
        for visitor in (*visitors, *visitors):
            visitor.get()
    shows(lambda request: text_of(USES[use](request)))
    if when == "after pages were kept":
        Product.objects.create(name="x")
        real_sessions.changed(Product)
    others = settings.MIDDLEWARE[1:]
    for turn in (0, 1, 2, 1, 0, 2, 2, 0, 1):
        with override_settings(MIDDLEWARE=others):
            expected = visitors[turn].copy().get().content
        response = visitors[turn].get()
        said = shown(response)[1]
        if said == "hit":
            assert response.content == expected
    kept = {"the token", "a token in a template"}
    assert (said == "hit") == (use not in kept), said


def test_who_logs_in_and_out_sees_what_is_theirs(real_sessions: NudgeFake) -> None:
    shows(lambda request: request.user.username or "nobody")
    User.objects.create(username="ann")
    visitor, other = Visitor(), Visitor()
    for _ in range(3):
        assert shown(visitor.get())[0] == shown(other.get())[0] == "nobody"
    for _ in range(2):
        visitor.client.post("/login/", {"name": "ann"})
        for _ in range(3):
            assert shown(visitor.get())[0] == "ann"
            assert shown(other.get())[0] == "nobody"
        assert says(visitor) == "hit"
        kept = visitor.client.cookies["sessionid"].value
        visitor.client.post("/logout/")
        real_sessions.changed(Session)  # as the daemon would, for the row is deleted
        for _ in range(3):
            assert shown(visitor.get())[0] == "nobody"
        assert shown(Visitor(sessionid=kept).get())[0] == "nobody"


def test_a_view_that_logs_out_by_get_is_never_kept() -> None:
    visitor = somebody("ann")
    shows(log_out)
    for _ in range(3):
        assert "hit" not in says(Visitor())
    visitor.get()
    assert not Session.objects.exists()


def test_a_message_is_shown_to_whom_it_is_for() -> None:
    shows(lambda request: [str(each) for each in messages.get_messages(request)])
    visitor, other = Visitor(), Visitor()
    for turn in range(3):
        visitor.get(f"/say/?text=hello{turn}")
        assert shown(visitor.get())[0] == f"['hello{turn}']"
        assert shown(other.get())[0] == "[]"


@pytest.mark.parametrize("engine", ["cache", "cached_db", "signed_cookies", "file"])
def test_a_page_of_a_session_that_is_in_no_table_is_not_kept(
    engine: str, settings: Any, tmp_path: Any
) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    visitor = Visitor()
    shows(lambda request: request.session.get("name"))
    for name in ("ann", "bob"):
        visitor.client.post("/name/", {"name": name})
        for _ in range(3):
            assert shown(visitor.get())[0] == name
    assert "its session is not kept in a table" in says(visitor)
    assert is_kept(Visitor())


def test_sessions_that_are_saved_at_every_request_still_are(settings: Any) -> None:
    shows(lambda request: "")
    visitor = somebody("ann")
    settings.SESSION_SAVE_EVERY_REQUEST = True
    assert is_kept(Visitor())
    for _ in range(3):
        assert "bypass" in says(visitor)


def test_a_session_that_a_header_names_is_told_by_the_header(settings: Any) -> None:
    settings.MIDDLEWARE = [SITE, f"{small_site.__name__}.OwnSessions", AUTH]
    shows(lambda request: request.user.username or "nobody")
    keys = {name: somebody(name).client.cookies["sessionid"].value for name in ("ann", "bob")}
    for _ in range(3):
        for name, key in keys.items():
            assert shown(Visitor().get(**{"X-Session": key}))[0] == name
        assert shown(Visitor().get())[0] == "nobody"
    assert says(Visitor(), **{"X-Session": keys["ann"]}) == "hit"


@pytest.mark.parametrize("place", [1, 6])
def test_the_session_s_cookie_counts_for_whoever_else_reads_it(place: int, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:place], f"{small_site.__name__}.CookieFirst"]
    settings.MIDDLEWARE += [SESSIONS] if place == 1 else []
    shows(lambda request: request.short)
    for _ in range(3):
        for who in ("annannann", "bobbobbob"):
            assert shown(Visitor(sessionid=who).get())[0] == who[:3]
    assert says(Visitor(sessionid="annannann")) == "hit"


def test_a_vary_on_cookie_that_a_view_asks_for_counts() -> None:
    shows(vary_on_cookie(lambda request: HttpResponse(products())))
    for who in ("a", "b"):
        assert is_kept(Visitor(analytics=who))
    assert len(runs) == 3  # one of them has learned


def test_a_session_that_was_asked_for_is_told_by_its_own_cookie_alone() -> None:
    shows(lambda request: request.user.username or "nobody")
    learn()
    assert says(Visitor(analytics="a")) == "miss"
    response = Visitor(analytics="b").get()
    assert shown(response) == ("nobody", "hit")
    assert "Cookie" in response.headers["Vary"]


def test_browsers_share_a_page_unless_some_are_refused(settings: Any) -> None:
    shows(lambda request: "")
    learn()
    assert says(Visitor(), **{"User-Agent": "one"}) == "miss"
    assert says(Visitor(), **{"User-Agent": "two"}) == "hit"
    settings.DISALLOWED_USER_AGENTS = [re.compile("bad")]
    assert is_kept(Visitor(), **{"User-Agent": "one"})
    assert Visitor().get(**{"User-Agent": "bad"}).status_code == 403


def test_a_browser_that_has_a_page_is_told_so_by_a_hit(settings: Any) -> None:
    settings.MIDDLEWARE = [SITE, "django.middleware.http.ConditionalGetMiddleware"]
    shows(lambda request: "")
    learn()
    assert says(Visitor(), **{"If-None-Match": '"other"'}) == "miss"
    response = Visitor().get()
    assert shown(response)[1] == "hit"
    again = Visitor().get(**{"If-None-Match": response.headers["ETag"]})
    assert (again.status_code, again.headers["X-Nudged"]) == (304, "hit")
    assert (runs, again.content) == (["/"] * 3, b"")


def test_a_browser_that_has_a_page_is_not_told_so_unless_the_site_does(
    real_sessions: NudgeFake,
) -> None:
    """A view's own ``Last-Modified`` need not tell when its page has changed."""
    since = "Wed, 01 Jan 2020 00:00:00 GMT"
    headers = {"Last-Modified": since, "ETag": '"fixed"'}
    shows(lambda request: HttpResponse(products(), headers=headers))
    assert is_kept(Visitor())
    Product.objects.create(name="new")
    real_sessions.changed(Product)
    sent = {"If-Modified-Since": since, "If-None-Match": '"fixed"'}
    for said in ("miss", "hit"):
        answer = Visitor().get(**sent)
        assert (answer.status_code, *shown(answer)) == (200, "new", said)


LANGUAGES = [("en", "English"), ("de", "German"), ("fr", "French")]


@pytest.mark.parametrize("browser", [Client, AsyncClient])
def test_readers_of_one_language_share_a_page(
    browser: type[Client | AsyncClient], settings: Any
) -> None:
    settings.MIDDLEWARE = [SITE, SESSIONS, LOCALE]
    settings.LANGUAGES = LANGUAGES
    shows(lambda request: translation.get_language())
    learn()
    for language, headers in (
        ("de", ("de", "de-AT,de;q=0.8", "es,de;q=0.5")),
        ("en", ("en", "es", "en-GB")),
    ):
        for turn, header in enumerate(headers):
            answer = Visitor(browser).get(**{"Accept-Language": header})
            assert shown(answer) == (language, "hit" if turn else "miss")
            assert "Accept-Language" in answer.headers["Vary"]
    assert shown(Visitor(browser, django_language="de").get()) == ("de", "hit")
    assert shown(Visitor(browser, django_language="fr").get()) == ("fr", "miss")


def test_a_view_that_reads_the_header_of_languages_itself_is_told_by_it(settings: Any) -> None:
    settings.MIDDLEWARE = [SITE, LOCALE]
    settings.LANGUAGES = LANGUAGES
    shows(lambda request: request.headers["Accept-Language"])
    for _ in range(3):
        for header in ("de", "de-AT"):
            assert shown(Visitor().get(**{"Accept-Language": header}))[0] == header


def test_what_one_request_has_activated_is_not_there_at_the_next(settings: Any) -> None:
    settings.MIDDLEWARE = [SITE, f"{small_site.__name__}.Zones"]
    shows(lambda request: f"{timezone.get_current_timezone_name()} {translation.get_language()}")
    first = (timezone.get_current_timezone_name(), translation.get_language())
    learn()
    for turn in range(3):
        paris = shown(Visitor(zone="Europe/Paris", language="de").get())
        assert paris == ("Europe/Paris de", "hit" if turn else "miss")
        assert (timezone.get_current_timezone_name(), translation.get_language()) == first
        assert shown(Visitor().get()) == (" ".join(first), "hit" if turn else "miss")


@pytest.mark.usefixtures("contrib_sites")
def test_a_page_depends_on_the_sites_that_django_keeps_in_memory(
    real_sessions: NudgeFake,
) -> None:
    sites: Any = apps.get_app_config("sites").get_model("Site")
    shows(lambda request: get_current_site(request).name)
    assert [shown(Visitor().get())[1] for _ in range(4)][-1] == "hit"
    site = sites.objects.get()
    site.name = "new"
    site.save()
    real_sessions.changed(sites)
    text, how = shown(Visitor().get())
    assert how == "miss"
    assert "new" in text


@pytest.fixture
def contrib_sites(site: None, settings: Any, real_sessions: NudgeFake) -> Iterator[None]:
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.sites"]
    settings.SITE_ID = 1
    sites: Any = apps.get_app_config("sites").get_model("Site")
    with connection.schema_editor() as editor:
        editor.create_model(sites)
    sites.objects.clear_cache()
    sites.objects.create(pk=1, domain="old.test", name="old")
    real_sessions.resync()
    yield
    sites.objects.clear_cache()
