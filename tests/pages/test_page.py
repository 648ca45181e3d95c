"""pages and conditions: what a page shows is served as long as it is true."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches
from django.http import HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import RequestFactory

from django_pgnudge import nudged_condition, nudged_page
from tests.fix_nudged import count_calls
from tests.shop.models import Category, Product

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

    from django_pgnudge.testing import NudgeFake

get = RequestFactory().get


@pytest.fixture(autouse=True)
def empty_cache(nudge_fake: NudgeFake) -> None:
    caches["default"].clear()
    nudge_fake.lease()


class View:
    """A view that says how often it ran."""

    __qualname__ = "View"

    def __init__(self, **options: Any) -> None:
        self.runs = 0
        self.options = options

    def __call__(self, request: HttpRequest, *args: Any) -> Any:
        self.runs += 1
        response = HttpResponse(f"run {self.runs}", **self.options)
        if "vary" in request.GET:
            response["Vary"] = "Cookie"
        if "cookie" in request.GET:
            response.set_cookie("seen", "1")
        return response


def body(response: Any) -> str:
    return str(response.content.decode())


# nudged_page.


def test_a_page_is_kept_until_what_it_shows_changes(nudge_fake: NudgeFake) -> None:
    view = View()
    page = nudged_page(60, Product)(view)
    assert [body(page(get("/a"))) for _ in range(3)] == ["run 1"] * 3
    assert body(page(get("/a?x=1"))) == "run 2"
    nudge_fake.changed(Category)
    assert body(page(get("/a"))) == "run 1"
    nudge_fake.changed(Product)
    assert body(page(get("/a"))) == "run 3"


def test_a_hit_asks_for_the_headers_that_name_it_and_for_the_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = nudged_page(60, Product)(View())
    page(get("/a?vary"))
    asked = count_calls(monkeypatch)
    assert (body(page(get("/a?vary"))), len(asked)) == ("run 1", 2)


async def test_a_page_of_an_async_view_is_kept_too(nudge_fake: NudgeFake) -> None:
    runs = []

    @nudged_page(60, Product)
    async def page(request: HttpRequest) -> HttpResponse:
        runs.append(1)
        return HttpResponse(f"run {len(runs)}")

    assert asyncio.iscoroutinefunction(page)
    assert [body(await page(get("/a"))) for _ in range(3)] == ["run 1"] * 3


def test_pages_are_kept_apart_by_the_headers_they_vary_on() -> None:
    page = nudged_page(60, Product)(View())

    def ask(session: str) -> str:
        return body(page(get("/a?vary", headers={"Cookie": f"sessionid={session}"})))

    assert [ask("one"), ask("two"), ask("one"), ask("two")] == ["run 1", "run 2"] * 2


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/a", {"status": 404}),
        ("/a?vary&cookie", {}),
        ("/a", {"headers": {"Cache-Control": "private"}}),
        ("/a", {"headers": {"Cache-Control": "no-store"}}),
        ("/a", {"headers": {"Vary": "*"}}),
    ],
)
def test_what_django_would_not_cache_is_not_kept(path: str, options: dict[str, Any]) -> None:
    page = nudged_page(60, Product)(View(**options))
    assert [body(page(get(path))) for _ in range(2)] == ["run 1", "run 2"]


def test_only_get_is_kept_and_a_head_is_answered_from_it() -> None:
    view = View()
    page = nudged_page(60, Product)(view)
    factory = RequestFactory()
    page(factory.head("/a"))
    page(factory.head("/a"))
    page(factory.post("/a"))
    assert view.runs == 3
    page(factory.get("/a"))
    page(factory.head("/a"))
    assert view.runs == 4


def test_streams_are_not_kept() -> None:
    page = nudged_page(60, Product)(lambda request: StreamingHttpResponse(iter(["a"])))
    assert [page(get("/a")).getvalue() for _ in range(2)] == [b"a", b"a"]


def test_a_page_that_looked_at_the_session_varies_on_the_cookie() -> None:
    """The middleware would say so only after the page is kept."""

    class Session:
        accessed = modified = False

    def view(request: Any) -> HttpResponse:
        request.session.accessed = True
        return HttpResponse(request.COOKIES["sessionid"])

    page = nudged_page(60, Product)(view)

    def ask(who: str) -> str:
        request: Any = get("/a", headers={"Cookie": f"sessionid={who}"})
        request.session = Session()
        return body(page(request))

    assert [ask("one"), ask("two"), ask("one")] == ["one", "two", "one"]


def test_a_page_with_a_csrf_token_is_its_reader_s() -> None:
    view = View()

    def with_token(request: Any) -> Any:
        request.META["CSRF_COOKIE_NEEDS_UPDATE"] = True
        return view(request)

    page = nudged_page(60, Product)(with_token)
    assert [body(page(get("/a"))) for _ in range(2)] == ["run 1", "run 2"]


def _template_response(runs: list[int]) -> Callable[[Any], TemplateResponse]:
    def view(request: Any) -> TemplateResponse:
        runs.append(1)
        return TemplateResponse(
            request, engines["django"].from_string("run {{ n }}"), {"n": len(runs)}
        )

    return view


def test_a_page_is_kept_once_its_maker_has_rendered_it(settings: Any) -> None:
    settings.TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
    runs: list[int] = []
    page = nudged_page(60, Product)(_template_response(runs))
    first = page(get("/a"))
    assert not first.is_rendered
    assert not page(get("/a")).is_rendered
    first.render()
    again = page(get("/a"))
    assert (body(again), len(runs)) == (body(first), 2) == ("run 1", 2)
    again.context_data["more"] = "from middleware"


def test_a_broken_cache_runs_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("gone")

    page = nudged_page(60, Product)(View())
    with monkeypatch.context() as patch:
        for name in ("get", "get_many", "set", "add", "delete"):
            patch.setattr(type(caches["default"]), name, fail)
        assert [body(page(get("/a"))) for _ in range(2)] == ["run 1", "run 2"]


# nudged_condition.


def test_a_304_costs_one_question_and_runs_no_view(
    nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = View()
    page = nudged_condition(Product)(view)
    tag = page(get("/a"))["ETag"]
    assert tag.startswith('W/"')
    asked = count_calls(monkeypatch)
    answer = page(get("/a", headers={"If-None-Match": tag}))
    assert (answer.status_code, view.runs, asked) == (304, 1, ["get_many"])
    monkeypatch.undo()
    nudge_fake.changed(Product)
    changed = page(get("/a", headers={"If-None-Match": tag}))
    assert (changed.status_code, body(changed)) == (200, "run 2")
    assert changed["ETag"] != tag


async def test_a_304_of_an_async_view(nudge_fake: NudgeFake) -> None:
    runs = []

    @nudged_condition(Product)
    async def page(request: HttpRequest) -> HttpResponse:
        runs.append(1)
        return HttpResponse("made")

    tag = (await page(get("/a")))["ETag"]
    assert (await page(get("/a", headers={"If-None-Match": tag}))).status_code == 304
    assert len(runs) == 1


def test_the_tag_is_another_s_where_the_page_may_be() -> None:
    page = nudged_condition(Product)(View())
    asked = [
        get("/a"),
        get("/b"),
        get("/a?x=1"),
        get("/a", headers={"Cookie": "sessionid=1"}),
        get("/a", headers={"Accept-Language": "de"}),
        get("/a", headers={"Authorization": "Basic x"}),
    ]
    assert len({page(request)["ETag"] for request in asked}) == len(asked)
    assert set(page(get("/a"))["Vary"].split(", ")) == {
        "Cookie", "Authorization", "Accept-Language",
    }  # fmt: skip
    first, second = (
        nudged_condition(Product, etag=lambda request, v=version: v)(View())(get("/a"))["ETag"]
        for version in ("1", "2")
    )
    assert first != second


def test_the_tag_is_of_the_tokens_before_the_view_ran(nudge_fake: NudgeFake) -> None:
    def view(request: HttpRequest) -> HttpResponse:
        nudge_fake.changed(Product)
        return HttpResponse("old")

    page = nudged_condition(Product)(view)
    tag = page(get("/a"))["ETag"]
    assert page(get("/a", headers={"If-None-Match": tag})).status_code == 200


def test_there_is_no_tag_without_a_lease(nudge_fake: NudgeFake) -> None:
    page = nudged_condition(Product)(View())
    tag = page(get("/a"))["ETag"]
    nudge_fake.no_lease()
    answer = page(get("/a", headers={"If-None-Match": tag}))
    assert (answer.status_code, answer.has_header("ETag")) == (200, False)
    assert not nudged_condition(Product)(View(status=404))(get("/a")).has_header("ETag")
    assert page(RequestFactory().post("/a")).status_code == 200
