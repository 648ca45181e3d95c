"""`NudgedSiteMiddleware`: a whole site's pages, each seen by nobody but those it was made for."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.http import HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, RequestFactory
from django.test.utils import override_settings
from django.urls import include, path
from django.utils import timezone, translation
from django.utils.decorators import method_decorator
from django.utils.deprecation import MiddlewareMixin
from django.views import View
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.vary import vary_on_cookie, vary_on_headers

from django_pgnudge import never_nudged, nudged, nudged_page, nudged_site
from django_pgnudge.errors import ConfigError
from django_pgnudge.log import forget_logged
from django_pgnudge.pages.busy_tables import MOST_IN_A_ROW, REST, BusyTables
from django_pgnudge.reader.state import reader_state
from tests.shop.models import Category, Product, Review

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_pgnudge.testing import NudgeFake

SITE = "django_pgnudge.middleware.NudgedSiteMiddleware"
SESSIONS = "django.contrib.sessions.middleware.SessionMiddleware"
CSRF = "django.middleware.csrf.CsrfViewMiddleware"
AUTH = "django.contrib.auth.middleware.AuthenticationMiddleware"
MESSAGES = "django.contrib.messages.middleware.MessageMiddleware"
COMMON = "django.middleware.common.CommonMiddleware"
LOCALE = "django.middleware.locale.LocaleMiddleware"

runs: list[str] = []
"""The paths that a view has run for."""


@pytest.fixture(autouse=True)
def site(real_sessions: NudgeFake, settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.TEMPLATES = [
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {
                "context_processors": [
                    "django.contrib.auth.context_processors.auth",
                    "django.template.context_processors.csrf",
                ]
            },
        }
    ]
    settings.MIDDLEWARE = [SITE, SESSIONS, COMMON, CSRF, AUTH, MESSAGES]
    settings.PGNUDGE = {"NUDGED": {"HEADER": True}}
    caches["default"].clear()
    real_sessions.lease()
    # The first value of an epoch has a process read the catalogs; a page leaves it at that.
    nudged.get_or_set("first", 1, depends_on=["own"])
    runs.clear()


def products() -> str:
    return ",".join(Product.objects.order_by("pk").values_list("name", flat=True))


class Front:
    """The view at ``/``: what it shows besides the products is set by each test."""

    show: Callable[[Any], object] = staticmethod(lambda request: "")


def front(request: Any) -> Any:
    runs.append(request.path)
    found: Any = Front.show(request)
    return found if isinstance(found, HttpResponse) else HttpResponse(f"{products()} {found}")


def shows(show: Callable[[Any], object]) -> None:
    Front.show = staticmethod(show)


class Visitor:
    def __init__(self, browser: type[Client | AsyncClient] = Client, **cookies: str) -> None:
        self.client: Any = browser()
        self.client.cookies.load(cookies)

    def copy(self) -> Visitor:
        """Another browser with the same cookies."""
        other = Visitor(type(self.client))
        other.client.cookies.update(self.client.cookies)
        return other

    def get(self, address: str = "/", **headers: str) -> Any:
        is_async = isinstance(self.client, AsyncClient)
        ask = async_to_sync(self.client.get) if is_async else self.client.get
        return ask(address, headers=headers)

    def head(self, address: str = "/") -> Any:
        return self.client.head(address)


def shown(response: Any) -> tuple[str, str]:
    """The text, and whether it is a hit, a miss, or why it was bypassed."""
    return response.content.decode().strip(), response.headers["X-Nudged"]


def says(visitor: Visitor, address: str = "/", **headers: str) -> str:
    return str(visitor.get(address, **headers).headers["X-Nudged"])


def learn(address: str = "/") -> None:
    """Have it known what this page's route reads, and keep nothing at other addresses."""
    Visitor().get(f"{address}?learn")
    Visitor().get(f"{address}?learn")


def is_kept(visitor: Visitor, address: str = "/", **headers: str) -> bool:
    for _ in range(3):
        said = says(visitor, address, **headers)
    return said == "hit"


def text_of(found: object) -> str:
    return found.content.decode() if isinstance(found, HttpResponse) else f"{found}"


def somebody(name: str) -> Visitor:
    visitor = Visitor()
    visitor.client.force_login(User.objects.get_or_create(username=name)[0])
    visitor.client.cookies["csrftoken"] = name[0] * 32
    return visitor


# What a whole page depends on.


@pytest.mark.parametrize("browser", [Client, AsyncClient])
def test_a_page_is_kept_until_something_it_read_changes(
    browser: type[Client | AsyncClient], real_sessions: NudgeFake
) -> None:
    shows(lambda request: "")
    Product.objects.create(name="one")
    visitor = Visitor(browser)
    assert [shown(visitor.get()) for _ in range(3)] == [
        ("one", "miss"),  # what it reads is learned
        ("one", "miss"),
        ("one", "hit"),
    ]
    Product.objects.create(name="two")
    real_sessions.changed(Review)
    assert shown(visitor.get()) == ("one", "hit")
    real_sessions.changed(Product)
    assert shown(visitor.get()) == ("one,two", "miss")
    assert shown(visitor.get("/?other")) == ("one,two", "miss")
    assert shown(Visitor(browser).get()) == ("one,two", "hit")


class Reading(MiddlewareMixin):
    """Middleware that reads a table before and after the view."""

    def process_request(self, request: Any) -> None:
        request.categories = list(Category.objects.all())

    def process_response(self, request: Any, response: Any) -> Any:
        response.headers["X-Reviews"] = str(Review.objects.count())
        return response


@pytest.mark.parametrize("browser", [Client, AsyncClient])
def test_what_middleware_below_reads_is_a_part_of_the_page(
    browser: type[Client | AsyncClient], real_sessions: NudgeFake, settings: Any
) -> None:
    settings.MIDDLEWARE = [SITE, f"{__name__}.Reading"]
    shows(lambda request: request.categories)
    assert is_kept(Visitor(browser))
    for model in (Category, Review, Product):
        real_sessions.changed(model)
        assert says(Visitor(browser)) == "miss"
        assert says(Visitor(browser)) == "hit"
    real_sessions.changed(User)
    assert says(Visitor(browser)) == "hit"


def test_tables_are_learned_for_each_route() -> None:
    shows(lambda request: "")
    assert is_kept(Visitor())
    Visitor().get("/category/")
    learned = reader_state("default").learned
    assert learned.of("site /") == {"public.shop_product"}
    assert learned.of("site /category/") == {"public.shop_category"}


def test_a_page_that_its_template_reads_for(real_sessions: NudgeFake) -> None:
    template = engines["django"].from_string("{{ products }}")
    shows(lambda request: TemplateResponse(request, template, {"products": products}))
    assert is_kept(Visitor())
    Product.objects.create(name="new")
    real_sessions.changed(Product)
    assert shown(Visitor().get()) == ("new", "miss")


# Never another's.


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


class OwnSessions(MiddlewareMixin):
    """A middleware of a project, which takes the session from a header."""

    def process_request(self, request: Any) -> None:
        request.session = SessionStore(request.headers.get("X-Session"))


def test_a_session_that_a_header_names_is_told_by_the_header(settings: Any) -> None:
    settings.MIDDLEWARE = [SITE, f"{__name__}.OwnSessions", AUTH]
    shows(lambda request: request.user.username or "nobody")
    keys = {name: somebody(name).client.cookies["sessionid"].value for name in ("ann", "bob")}
    for _ in range(3):
        for name, key in keys.items():
            assert shown(Visitor().get(**{"X-Session": key}))[0] == name
        assert shown(Visitor().get())[0] == "nobody"
    assert says(Visitor(), **{"X-Session": keys["ann"]}) == "hit"


class CookieFirst(MiddlewareMixin):
    """A middleware that reads the session's cookie for a purpose of its own."""

    def process_request(self, request: Any) -> None:
        request.short = request.COOKIES.get("sessionid", "nobody")[:3]


@pytest.mark.parametrize("place", [1, 6])
def test_the_session_s_cookie_counts_for_whoever_else_reads_it(place: int, settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE[:place], f"{__name__}.CookieFirst"]
    settings.MIDDLEWARE += [SESSIONS] if place == 1 else []
    shows(lambda request: request.short)
    for _ in range(3):
        for who in ("annannann", "bobbobbob"):
            assert shown(Visitor(sessionid=who).get())[0] == who[:3]
    assert says(Visitor(sessionid="annannann")) == "hit"


# What Django's own cache middleware would not keep.


def set_cookie(request: Any) -> HttpResponse:
    response = HttpResponse(products())
    response.set_cookie("seen", "1")
    return response


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "never_cache": (never_cache(lambda request: HttpResponse(products())), "its Cache-Control is"),
    "private": (
        cache_control(private=True)(lambda request: HttpResponse(products())),
        "its Cache-Control is 'private'",
    ),
    "max-age of 0": (
        cache_control(max_age=0)(lambda request: HttpResponse(products())),
        "its max-age is 0",
    ),
    "a cookie": (set_cookie, "it set a cookie"),
    "another status": (lambda request: HttpResponse(products(), status=404), "not a complete"),
    "Vary: *": (vary_on_headers("*")(lambda request: HttpResponse(products())), "on everything"),
    "a stream": (lambda request: StreamingHttpResponse(iter([products()])), "not a complete"),
    "a write": (
        lambda request: HttpResponse(str(Category.objects.create(name="x"))), "it ran INSERT",
    ),
    "the token": (lambda request: HttpResponse(get_token(request)), "it used the CSRF token"),
    "nothing read": (lambda request: HttpResponse("text"), "it read nothing in the database"),
    "a changed session": (
        lambda request: request.session.update({"a": 1}) or HttpResponse(products()),
        "it changed the session",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_kept_says_why(what: str) -> None:
    view, why = REFUSED[what]

    def show(request: Any) -> Any:
        return view(request)

    Front.show = staticmethod(show)
    answers = [Visitor().get("/raw/").headers["X-Nudged"] for _ in range(3)]
    assert answers[-1].startswith("bypass; ")
    assert why in answers[-1]
    assert len(runs) == 3


def raw(request: Any) -> Any:
    runs.append(request.path)
    return Front.show(request)


def test_max_age_is_how_long_a_page_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    backend: Any = type(caches["default"])
    real = backend.set

    def note(self: Any, key: Any, value: Any, timeout: Any = None, **kwargs: Any) -> Any:
        kept.append(timeout)
        return real(self, key, value, timeout, **kwargs)

    shows(cache_control(max_age=30)(lambda request: HttpResponse(products())))
    learn()
    monkeypatch.setattr(backend, "set", note)
    assert says(Visitor()) == "miss"
    assert 30 in kept
    assert says(Visitor()) == "hit"


def test_only_get_is_kept_and_a_head_is_answered_from_it(settings: Any) -> None:
    shows(lambda request: "")
    learn()
    runs.clear()
    assert "bypass" in Visitor().head().headers["X-Nudged"]
    assert Visitor().client.post("/").headers["X-Nudged"] == "bypass; its method is POST"
    assert says(Visitor()) == "miss"
    assert Visitor().head().headers["X-Nudged"] == "hit"
    assert len(runs) == 3
    settings.CACHE_MIDDLEWARE_SECONDS = 0
    assert says(Visitor()) == "bypass; CACHE_MIDDLEWARE_SECONDS is 0"


def test_hosts_and_headers_of_vary_are_told_apart(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["one.test", "two.test"]
    shows(vary_on_headers("X-Plan")(lambda request: HttpResponse(products())))
    visitor = Visitor()
    learn_headers = {"Host": "one.test"}
    visitor.get(**learn_headers)
    for host in settings.ALLOWED_HOSTS:
        for plan in ("free", "paid"):
            headers = {"Host": host, "X-Plan": plan}
            assert says(visitor, **headers) == "miss"
            assert says(visitor, **headers) == "hit"
    refused = visitor.get(Host="three.test")
    assert (refused.status_code, refused.headers["X-Nudged"]) == (
        400,
        "bypass; its host is not allowed",
    )


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


# What Django's own middleware looks at.


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


class Zones(MiddlewareMixin):
    """Activates what a cookie names, and leaves it there."""

    def process_request(self, request: Any) -> None:
        if (zone := request.COOKIES.get("zone")) is not None:
            timezone.activate(zone)
        if (language := request.COOKIES.get("language")) is not None:
            translation.activate(language)


def test_what_one_request_has_activated_is_not_there_at_the_next(settings: Any) -> None:
    settings.MIDDLEWARE = [SITE, f"{__name__}.Zones"]
    shows(lambda request: f"{timezone.get_current_timezone_name()} {translation.get_language()}")
    first = (timezone.get_current_timezone_name(), translation.get_language())
    learn()
    for turn in range(3):
        paris = shown(Visitor(zone="Europe/Paris", language="de").get())
        assert paris == ("Europe/Paris de", "hit" if turn else "miss")
        assert (timezone.get_current_timezone_name(), translation.get_language()) == first
        assert shown(Visitor().get()) == (" ".join(first), "hit" if turn else "miss")


# Which views.


@never_nudged
def never(request: Any) -> HttpResponse:
    runs.append(request.path)
    return HttpResponse(products())


def calls_never(request: Any) -> Any:
    return never(request)


@method_decorator(never_nudged, name="dispatch")
class NeverByDispatch(View):
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse(products())


class NeverByMethod(View):
    @method_decorator(never_nudged)
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse(products())


@never_nudged
async def never_async(request: Any) -> HttpResponse:
    return HttpResponse(",".join([each.name async for each in Product.objects.all()]))


@nudged_site
def marked(request: Any) -> HttpResponse:
    return HttpResponse(products())


class MarkedByMethod(View):
    @method_decorator(nudged_site)
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse(products())


@never_nudged
@nudged_page(60)
def nudged_alone(request: Any) -> HttpResponse:
    runs.append(request.path)
    return HttpResponse(products())


NEVER = ("never", "calls_never", "never_by_dispatch", "never_by_method", "never_async")


@pytest.mark.parametrize("name", NEVER)
def test_a_view_may_opt_out(name: str) -> None:
    answers = {says(Visitor(), f"/{name}/") for _ in range(3)}
    assert answers == {"bypass; its view is marked by never_nudged"}


def test_a_view_that_opts_out_may_be_nudged_by_itself() -> None:
    assert [says(Visitor(), "/nudged_alone/") for _ in range(3)][-1].startswith("bypass")
    assert len(runs) == 2


def test_only_marked_views_may_be_kept(settings: Any) -> None:
    settings.PGNUDGE = {"NUDGED": {"SITE": "marked", "HEADER": True}}
    shows(lambda request: "")
    assert [says(Visitor()) for _ in range(3)][
        -1
    ] == "bypass; its view is not marked by nudged_site"
    assert is_kept(Visitor(), "/marked/")
    visitor = Visitor()  # its first request finds the mark
    assert [says(visitor, "/marked_by_method/") for _ in range(4)][-1] == "hit"
    assert "never" in says(Visitor(), "/never/")


class OtherUrls(MiddlewareMixin):
    """A middleware that chooses the URLs of a host."""

    def process_request(self, request: Any) -> None:
        request.urlconf = tuple(elsewhere)


def test_marks_count_where_middleware_chooses_other_urls(settings: Any) -> None:
    settings.MIDDLEWARE = [SITE, f"{__name__}.OtherUrls"]
    shows(lambda request: "")
    assert [says(Visitor(), "/elsewhere/never/") for _ in range(3)][-1].startswith(
        "bypass; its view"
    )
    assert is_kept(Visitor(), "/elsewhere/")
    settings.PGNUDGE = {"NUDGED": {"SITE": "marked", "HEADER": True}}
    assert not is_kept(Visitor(), "/elsewhere/?other")
    assert is_kept(Visitor(), "/elsewhere/marked/")


def test_a_mark_on_a_bare_method_is_refused() -> None:
    class Bare(View):
        @never_nudged
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse()

    with pytest.raises(ConfigError, match=r"Decorate a method by method_decorator\(\)"):
        Bare.as_view()(RequestFactory().get("/"))


# What is said.


def test_the_header_is_there_when_debugging_or_asked_for(settings: Any) -> None:
    shows(lambda request: "")
    settings.PGNUDGE = {}
    assert "X-Nudged" not in Visitor().get().headers
    settings.DEBUG = True
    assert "X-Nudged" in Visitor().get().headers


def test_the_header_of_the_response_that_was_kept_is_not_kept(settings: Any) -> None:
    shows(lambda request: "")
    assert is_kept(Visitor())
    settings.PGNUDGE = {}
    assert "X-Nudged" not in Visitor().get().headers


def test_a_table_that_the_stream_lacks_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """As that of sessions does by default."""
    tables = {"public.shop_product", "public.auth_user"}
    reader_state("default").coverages["fake"] = frozenset(tables)
    shows(lambda request: request.user.username)
    visitor = somebody("ann")
    assert not is_kept(visitor)
    assert "public.django_session, whose changes the stream does not carry" in says(visitor)
    assert "public.django_session" in caplog.text
    assert is_kept(Visitor())


def test_there_is_no_hit_without_a_lease(real_sessions: NudgeFake) -> None:
    shows(lambda request: "")
    assert is_kept(Visitor())
    real_sessions.no_lease()
    assert says(Visitor()) == "bypass; there is no lease"


def test_a_busy_table_is_found_and_said_once(
    real_sessions: NudgeFake, caplog: pytest.LogCaptureFixture
) -> None:
    forget_logged()
    shows(lambda request: "")
    learn()
    visitor = Visitor()  # each client has a middleware of its own
    with caplog.at_level(logging.WARNING):
        for _ in range(MOST_IN_A_ROW + 1):
            assert says(visitor) == "miss"
            real_sessions.changed(Product)
        why = "bypass; public.shop_product changes between any two requests"
        assert {says(visitor) for _ in range(3)} == {why}
        assert says(visitor, "/?another") == why
        assert says(visitor, "/category/") == "miss"
    said = [each for each in caplog.messages if "public.shop_product has changed" in each]
    assert len(said) == 1


class TestBusyTables:
    def rows(self, busy: BusyTables, count: int, *tokens: str, entry: str = "page") -> str | None:
        found = None
        for _ in range(count):
            self.turn = getattr(self, "turn", 0) + 1
            found = busy.stored("/", entry, {"still": "1", **dict.fromkeys(tokens, f"{self.turn}")})
        return found

    def test_a_hit_begins_again(self) -> None:
        busy = BusyTables(lambda: 0.0)
        assert self.rows(busy, MOST_IN_A_ROW, "visits") is None
        busy.hit("/")
        assert self.rows(busy, MOST_IN_A_ROW - 1, "visits") is None
        assert self.rows(busy, 1, "visits") == "visits"
        assert busy.resting_for("/") == "visits"
        assert busy.resting_for("/other") is None

    def test_it_is_one_table_that_ends_them_all(self) -> None:
        busy = BusyTables(lambda: 0.0)
        assert self.rows(busy, MOST_IN_A_ROW, "visits", "orders") is None
        assert self.rows(busy, 1, "visits") == "visits"
        for table in ("a", "b") * MOST_IN_A_ROW:
            assert self.rows(busy, 2, table) is None

    def test_pages_that_are_asked_for_once_say_nothing(self) -> None:
        busy = BusyTables(lambda: 0.0)
        for page in range(5 * MOST_IN_A_ROW):
            assert self.rows(busy, 1, "visits", entry=f"page {page}") is None

    def test_the_rest_ends(self) -> None:
        now = 0.0
        busy = BusyTables(lambda: now)
        self.rows(busy, MOST_IN_A_ROW + 1, "visits")
        now = REST - 1
        assert busy.resting_for("/") == "visits"
        now = REST
        assert busy.resting_for("/") is None
        assert self.rows(busy, MOST_IN_A_ROW - 1, "visits") is None


def log_in(request: Any) -> HttpResponse:
    login(request, User.objects.get(username=request.POST["name"]))
    return HttpResponse()


def log_out(request: Any) -> HttpResponse:
    logout(request)
    return HttpResponse()


def say(request: Any) -> HttpResponse:
    messages.success(request, request.GET["text"])
    return HttpResponse(products())


def name(request: Any) -> HttpResponse:
    request.session["name"] = request.POST["name"]
    return HttpResponse()


def category(request: Any) -> HttpResponse:
    return HttpResponse(str(Category.objects.count()))


urlpatterns = [
    path("", front),
    path("raw/", raw),
    path("category/", category),
    path("login/", log_in),
    path("logout/", log_out),
    path("say/", say),
    path("name/", name),
    path("never/", never),
    path("calls_never/", calls_never),
    path("never_by_dispatch/", NeverByDispatch.as_view()),
    path("never_by_method/", NeverByMethod.as_view()),
    path("never_async/", never_async),
    path("marked/", marked),
    path("marked_by_method/", MarkedByMethod.as_view()),
    path("nudged_alone/", nudged_alone),
]

elsewhere = [path("elsewhere/", include(urlpatterns))]
