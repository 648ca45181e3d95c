"""requests: what tells pages apart, and what makes one its reader's alone."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.messages import get_messages
from django.contrib.messages import success as say
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.backends.cache import SessionStore as CachedSession
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.core.cache import caches
from django.http import HttpResponse, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template.response import SimpleTemplateResponse
from django.test import RequestFactory
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject, empty
from django.views import View
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.vary import vary_on_headers

from django_pgnudge import nudged_condition, nudged_page
from django_pgnudge.pages.inputs import RequestInputs
from django_pgnudge.pages.recording import RecordedInputs
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Callable

    from django_pgnudge.testing import NudgeFake

get = RequestFactory().get


@pytest.fixture(autouse=True)
def empty_cache(nudge_fake: NudgeFake) -> None:
    caches["default"].clear()
    nudge_fake.lease()


class Page:
    """A nudged view that does as it is told, and says how often it ran."""

    def __init__(self, act: Callable[[Any, HttpResponse], Any] | None = None) -> None:
        self._act = act
        self.runs = 0
        self.page = nudged_page(60, Product)(self._view)

    def _view(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.runs += 1
        response = HttpResponse(f"run {self.runs}")
        if self._act is not None:
            self._act(request, response)
        return response

    def __call__(self, request: Any, *args: Any, **kwargs: Any) -> str:
        return str(self.page(request, *args, **kwargs).content.decode())


def with_session(request: Any, **items: Any) -> Any:
    request.session = SessionStore()
    request.session.update(items)
    request.session.accessed = request.session.modified = False
    return request


def test_a_page_that_shows_the_session_s_key_is_not_shown_to_another_session() -> None:
    """As that of a cart whose owner has not logged in; Django does not take that for an access."""
    page = Page(lambda request, response: response.write(f" for {request.session.session_key}"))

    def asked_by(key: str) -> Any:
        request = get("/a", headers={"Cookie": f"sessionid={key}"})
        request.session = CachedSession(key)
        return request

    asked = [page(asked_by(key)) for key in ("anns_key", "bobs_key", "anns_key")]
    assert asked == ["run 1 for anns_key", "run 2 for bobs_key", "run 1 for anns_key"]


def test_a_session_that_is_watched_reads_and_writes_what_it_did_before() -> None:
    request = with_session(get("/a"))
    before, kind = request.session, type(request.session)
    written, salt = before.encode({"a": 1}), before.key_salt
    for _ in range(2):
        RecordedInputs(RequestInputs(request)).start()
    assert request.session is before
    assert isinstance(before, kind)
    assert (before.key_salt, before.decode(written)) == (salt, {"a": 1})
    assert not before.accessed
    assert before.session_key is None
    assert before.accessed


class Shown(View):
    """Says what it is."""

    said = "shown"

    def get(self, request: Any) -> HttpResponse:
        return HttpResponse(self.said)


class Other(Shown):
    said = "other"


VIEWS = (
    Shown.as_view(),
    Other.as_view(),
    Shown.as_view(said="third"),
    Shown.as_view(said="fourth"),
)


def test_views_of_classes_are_other_pages_though_one_address_leads_to_them() -> None:
    pages = [nudged_page(60, Product)(view) for view in VIEWS]
    for _ in range(2):
        said = [page(get("/a")).content.decode() for page in pages]
        assert said == ["shown", "other", "third", "fourth"]


def test_views_of_classes_have_other_tags_though_one_address_leads_to_them() -> None:
    pages = [nudged_condition(Product)(view) for view in VIEWS]
    assert len({page(get("/a"))["ETag"] for page in pages}) == len(pages)


def with_messages(request: Any) -> Any:
    MessageMiddleware(lambda request: HttpResponse()).process_request(with_session(request))
    return request


# Names.


def vary_on_a_and_b(request: Any, response: HttpResponse) -> None:
    response["Vary"] = "X-A, X-B"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"X-A": "a", "X-B": "bc"}, {"X-A": "ab", "X-B": "c"}),
        ({"X-A": "a"}, {"X-B": "a"}),
        ({"X-A": "", "X-B": "a"}, {"X-B": "a"}),
        ({"X-A": "-,"}, {"X-B": "-,"}),
    ],
)
def test_other_values_of_headers_are_another_page(one: Any, other: Any) -> None:
    page = Page(vary_on_a_and_b)
    page(get("/a", headers={"X-A": "neither"}))
    asked = [page(get("/a", headers=headers)) for headers in (one, other, one, other)]
    assert asked == ["run 2", "run 3"] * 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (get("/b"), get("/a/../b")),
        (get("/b?x=1"), get("/b?x=2")),
        (get("/b", QUERY_STRING="x=é"), get("/b", QUERY_STRING="x=%C3%A9")),
        (get("/b"), get("/b", SERVER_NAME="other.example")),
        (get("/b"), get("/b", secure=True)),
        (get("/b"), get("/b", SCRIPT_NAME="/b", PATH_INFO="")),
        (get("/b"), get("/b", headers={"Authorization": "Basic x"})),
    ],
)
def test_another_address_is_another_page(one: Any, other: Any, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    page = Page()
    assert [page(one), page(other), page(one), page(other)] == ["run 1", "run 2"] * 2


def test_a_header_that_was_named_once_tells_pages_apart_from_then_on() -> None:
    def vary_for_some(request: Any, response: HttpResponse) -> None:
        if "X-Who" in request.headers:
            response["Vary"] = "X-Who"

    page = Page(vary_for_some)
    for_ann = get("/a", headers={"X-Who": "ann"})
    assert [page(for_ann), page(get("/a")), page(for_ann), page(get("/a"))] == [
        "run 1", "run 2", "run 1", "run 2",
    ]  # fmt: skip


def test_a_view_that_reads_accept_language_itself_is_believed() -> None:
    page = Page(lambda request, response: response.headers.setdefault("Vary", "Accept-Language"))
    page(get("/a", headers={"Accept-Language": "fr"}))
    assert page(get("/a", headers={"Accept-Language": "de"})) == "run 2"


def test_the_language_of_a_page_is_the_one_before_the_view() -> None:
    """What the view makes of it depends on what the view reads, which is named by itself."""
    page = Page(lambda request, response: translation.activate("de"))
    with translation.override("en"):
        assert page(get("/a")) == "run 1"
    with translation.override("de"):
        assert page(get("/a")) == "run 2"
    with translation.override("en"):
        assert page(get("/a")) == "run 1"


def test_time_zones_of_one_name_are_two() -> None:
    page = Page()
    shown = []
    for hours in (1, 2, 1, 2):
        with timezone.override(dt.timezone(dt.timedelta(hours=hours), "site")):
            shown.append(page(get("/a")))
    assert shown == ["run 1", "run 2"] * 2


def test_a_page_made_of_another_is_not_that() -> None:
    inner = Page()

    @nudged_page(60, Product)
    def outer(request: Any) -> HttpResponse:
        return HttpResponse(f"with {inner(request)}")

    assert [outer(get("/a")).content, inner(get("/a"))] == [b"with run 1", "run 1"]
    assert [outer(get("/a")).content, inner(get("/a"))] == [b"with run 1", "run 1"]


def test_arguments_that_the_address_does_not_give_name_the_page() -> None:
    page = Page()
    assert [page(get("/a"), "x"), page(get("/a"), "y"), page(get("/a"), "x")] == [
        "run 1", "run 2", "run 1",
    ]  # fmt: skip
    assert [page(get("/a"), (each for each in "x")) for _ in range(2)] == ["run 3", "run 4"]


class Converted:
    """What a path converter makes of a part of the address."""

    def __init__(self, said: str) -> None:
        self.said = said


def test_arguments_that_have_no_key_are_told_by_what_they_hold() -> None:
    page = Page()
    assert [page(get("/a"), when=Converted(each)) for each in "xyx"] == ["run 1", "run 2", "run 1"]


# Whose a page is.


def test_a_page_that_looked_at_a_cookie_varies_on_it() -> None:
    page = Page(lambda request, response: response.write(request.COOKIES.get("theme", "none")))
    shown = [page(get("/a", headers={"Cookie": f"theme={each}"})) for each in ("x", "y", "x")]
    assert shown == ["run 1x", "run 2y", "run 1x"]


LOOKS: list[Callable[[Any], Any]] = [
    lambda cookies: cookies["theme"],
    lambda cookies: "theme" in cookies,
    list,
    len,
    bool,
    lambda cookies: cookies == {},
    lambda cookies: {**cookies},
    dict,
    lambda cookies: cookies | {},
    lambda cookies: cookies.copy(),
    lambda cookies: list(cookies.items()),
    lambda cookies: list(cookies.values()),
    repr,
    lambda cookies: f"{cookies}",
    lambda cookies: cookies.pop("theme"),
]


@pytest.mark.parametrize("look", LOOKS)
def test_whatever_way_it_looked_at_them(look: Callable[[Any], Any]) -> None:
    page = Page(lambda request, response: look(request.COOKIES))
    assert page.page(get("/a", headers={"Cookie": "theme=x"}))["Vary"] == "Cookie"


def test_a_page_that_looked_at_no_cookie_is_everybody_s() -> None:
    page = Page()
    for each in ("x", "y"):
        response = page.page(get("/a", headers={"Cookie": f"theme={each}"}))
        assert (response.content, response.has_header("Vary")) == (b"run 1", False)


def set_cookie(request: Any, response: HttpResponse) -> None:
    response.set_cookie("seen", "1")


def set_cookie_by_hand(request: Any, response: HttpResponse) -> None:
    response["Set-Cookie"] = "seen=1"


def use_csrf_token(request: Any, response: HttpResponse) -> None:
    get_token(request)


def add_message(request: Any, response: HttpResponse) -> None:
    say(request, "hello")


def show_messages(request: Any, response: HttpResponse) -> None:
    list(get_messages(request))


def change_session(request: Any, response: HttpResponse) -> None:
    request.session["seen"] = 1


class LazyNonce(SimpleLazyObject):
    """As django.utils.csp has it."""

    def __init__(self) -> None:
        super().__init__(lambda: "abc")

    def __bool__(self) -> bool:
        return vars(self)["_wrapped"] is not empty


def use_nonce(request: Any, response: HttpResponse) -> None:
    response.write(f"{request._csp_nonce}")


def write_nonce(request: Any, response: HttpResponse) -> None:
    response["Content-Security-Policy"] = "script-src 'nonce-abc'"


PERSONAL = [
    set_cookie, set_cookie_by_hand, use_csrf_token, add_message, show_messages, change_session,
    use_nonce, write_nonce,
]  # fmt: skip


def request_for(act: Any, **headers: str) -> Any:
    request = with_messages(get("/a", headers=headers))
    request._csp_nonce = LazyNonce()
    if act is show_messages:
        say(request, "hello")
        # As if it had come with the request.
        request._messages.added_new = False
    return request


@pytest.mark.parametrize("act", PERSONAL)
def test_what_is_its_reader_s_is_not_kept(act: Any) -> None:
    page = Page(act)
    shown = [page(request_for(act)) for _ in range(2)]
    assert [each[:5] for each in shown] == ["run 1", "run 2"]


@pytest.mark.parametrize("act", PERSONAL)
def test_what_is_its_reader_s_gets_no_tag(act: Any) -> None:
    def view(request: Any) -> HttpResponse:
        response = HttpResponse()
        act(request, response)
        return response

    page = nudged_condition(Product, vary_on=())(view)
    assert not page(request_for(act)).has_header("ETag")
    assert nudged_condition(Product)(lambda request: HttpResponse())(request_for(act))["ETag"]


def test_a_page_that_found_no_messages_varies_on_the_cookie() -> None:
    page = Page(show_messages)
    responses = [page.page(with_messages(get("/a"))) for _ in range(2)]
    assert [each.content for each in responses] == [b"run 1"] * 2
    assert responses[0]["Vary"] == "Cookie"


def test_a_token_that_a_decorator_has_sent_already_is_still_its_reader_s() -> None:
    view = csrf_protect(lambda request: HttpResponse(get_token(request)))
    page = nudged_page(60, Product)(view)
    assert len({page(get("/a")).content for _ in range(3)}) == 3


def test_a_token_that_is_kept_in_the_session_is_its_reader_s_too(settings: Any) -> None:
    """Where the decorator has neither a cookie to set nor the session to change."""
    settings.CSRF_USE_SESSIONS = True
    page = nudged_page(60, Product)(csrf_protect(lambda request: HttpResponse(get_token(request))))

    def ask() -> bytes:
        return bytes(page(with_session(get("/a"), _csrftoken="s" * 32)).content)

    assert len({ask() for _ in range(3)}) == 3


def use_user(request: Any, response: HttpResponse) -> None:
    response.write(f" for {request.user.username}")


USERS = {name: User(pk=len(name), username=name) for name in ("ann", "robert")}


def asked_by(name: str, **headers: str) -> Any:
    request: Any = get("/a", headers=headers)
    request.user = SimpleLazyObject(lambda: USERS[name])
    return request


def test_a_user_of_whom_no_header_tells_has_a_page_of_their_own() -> None:
    page = Page(use_user)
    shown = [page(asked_by(name)) for name in ("ann", "robert", "ann")]
    assert shown == ["run 1 for ann", "run 2 for robert", "run 1 for ann"]


def test_a_user_whom_a_header_named_in_vary_tells_shares_it_with_nobody_else() -> None:
    page = Page(use_user)
    page.page = nudged_page(60, Product)(vary_on_headers("X-Api-Key", "HX-Request")(page._view))
    shown = [page(asked_by(name, **{"X-Api-Key": name})) for name in ("ann", "robert", "ann")]
    assert shown == ["run 1 for ann", "run 2 for robert", "run 1 for ann"]
    shown = [page(asked_by(name, **{"HX-Request": "true"})) for name in ("ann", "robert")]
    assert shown == ["run 3 for ann", "run 4 for robert"]


def test_a_user_of_whom_nobody_asked_does_not_matter() -> None:
    page = Page()
    assert [page(asked_by(name)) for name in ("ann", "robert")] == ["run 1"] * 2


def test_a_user_who_is_not_the_session_s_is_not_told_by_its_cookie() -> None:
    """Such as one of an API key, at a view that asked the session first."""

    def act(request: Any, response: HttpResponse) -> None:
        request.session.get(SESSION_KEY)
        use_user(request, response)

    page = Page(act)
    shown = [page(with_session(asked_by(name, Cookie="theme=x"))) for name in ("ann", "robert")]
    assert shown == ["run 1 for ann", "run 2 for robert"]
    for _ in range(2):
        request = with_session(asked_by("ann", Cookie="theme=x"), **{SESSION_KEY: "3"})
        assert page(request) == "run 3 for ann"


def test_somebody_known_by_a_header_is_not_shown_what_was_made_for_nobody() -> None:
    def asked(name: str) -> Any:
        request = asked_by(name)
        if not name:
            request.user = SimpleLazyObject(AnonymousUser)
        return request

    page = Page(use_user)
    shown = [page(asked(name)) for name in ("", "ann", "")]
    assert shown == ["run 1 for ", "run 2 for ann", "run 1 for "]
    page.page = nudged_page(60, Product)(vary_on_headers("X-Api-Key")(page._view))
    assert [page(asked("")) for _ in range(2)] == ["run 3 for "] * 2


def test_nobody_in_particular_is_no_user() -> None:
    page = Page(use_user)
    for _ in range(2):
        request: Any = get("/a")
        request.user = AnonymousUser()
        assert page(request) == "run 1 for "


@pytest.mark.parametrize("made", [None, "text"])
def test_what_is_no_response_is_left_to_django(made: Any) -> None:
    assert nudged_page(60, Product)(lambda request: made)(get("/a")) is made
    assert nudged_condition(Product)(lambda request: made)(get("/a")) is made


# Conditions.


def tag_of(request: Any, **options: Any) -> str:
    view = options.pop("view", lambda request: HttpResponse())
    return str(nudged_condition(Product, **options)(view)(request)["ETag"])


def test_a_tag_is_of_the_time_zone_and_the_language() -> None:
    tags = set()
    for language in ("en", "de"):
        for zone in ("Europe/Paris", "Asia/Tokyo"):
            with translation.override(language), timezone.override(zone):
                tags.add(tag_of(get("/a")))
    assert len(tags) == 4


def test_a_tag_is_of_the_headers_that_the_response_names() -> None:
    page = nudged_condition(Product)(vary_on_headers("X-Tenant")(lambda request: HttpResponse()))

    def ask(tenant: str, tag: str) -> Any:
        return page(get("/a", headers={"X-Tenant": tenant, "If-None-Match": tag}))

    tag = ask("one", "")["ETag"]
    assert (ask("one", tag).status_code, ask("two", tag).status_code) == (304, 200)
    assert ask("one", tag)["ETag"] == tag
    assert "X-Tenant".lower() in ask("one", tag)["Vary"].lower()
    assert ask("two", f'"else", {tag}, {ask("two", "")["ETag"]}').status_code == 304


def test_a_tag_that_leaves_a_header_out_is_no_tag_of_the_response() -> None:
    page = nudged_condition(Product)(vary_on_headers("X-Tenant")(lambda request: HttpResponse()))
    tag = page(get("/a", headers={"X-Tenant": "one"}))["ETag"]
    for forged in (tag.replace(".x-tenant", ""), tag.replace(".x-tenant", ".x-other"), 'W/".."'):
        headers = {"X-Tenant": "two", "If-None-Match": forged}
        assert page(get("/a", headers=headers)).status_code == 200


def test_a_tag_is_of_the_session_s_cookie_where_the_page_used_the_session() -> None:
    def view(request: Any) -> HttpResponse:
        request.session.get("seen")
        return HttpResponse()

    page = nudged_condition(Product, vary_on=())(view)

    def ask(who: str, tag: str) -> Any:
        headers = {"Cookie": f"sessionid={who}", "If-None-Match": tag}
        return page(with_session(get("/a", headers=headers)))

    tag = ask("ann", "")["ETag"]
    assert (ask("ann", tag).status_code, ask("bob", tag).status_code) == (304, 200)


def test_another_address_has_another_tag() -> None:
    assert tag_of(get("/b")) != tag_of(get("/a/../b"))


def test_a_tag_from_before_is_no_tag_of_somebody_who_is_authorized() -> None:
    page = nudged_condition(Product, vary_on=())(lambda request: HttpResponse())
    headers = {"If-None-Match": page(get("/a"))["ETag"], "Authorization": "Basic x"}
    assert page(get("/a", headers=headers)).status_code == 200


def test_what_only_browsers_may_keep_has_a_tag_and_is_not_kept_here() -> None:
    def forbid(request: Any, response: HttpResponse) -> None:
        response["Cache-Control"] = "private, no-cache"

    page = Page(forbid)
    assert [page(get("/a")), page(get("/a"))] == ["run 1", "run 2"]
    assert tag_of(get("/a"), view=page.page)


def test_a_response_that_varies_on_everything_or_is_a_stream_gets_no_tag() -> None:
    for made in (HttpResponse(headers={"Vary": "*"}), StreamingHttpResponse(iter(["a"]))):
        page = nudged_condition(Product)(lambda request: made)
        assert not page(get("/a")).has_header("ETag")


def test_a_tag_waits_until_the_response_is_rendered() -> None:
    class Template:
        def render(self, context: Any, request: Any) -> str:
            return get_token(asked)

    asked = get("/a")
    page = nudged_condition(Product)(lambda request: SimpleTemplateResponse(Template()))  # type: ignore[arg-type]
    response = page(asked)
    assert not response.has_header("ETag")
    assert not response.render().has_header("ETag")
    Template.render = lambda self, context, request: "nothing"  # type: ignore[method-assign]
    tag = page(get("/a")).render()["ETag"]
    assert page(get("/a", headers={"If-None-Match": tag})).status_code == 304
