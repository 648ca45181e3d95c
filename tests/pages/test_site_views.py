"""`never_nudged` and `nudged_site`: which views `NudgedSiteMiddleware` keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.http import Http404, HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path, register_converter
from django.urls.converters import StringConverter
from django.views import View

from django_pgnudge import never_nudged
from django_pgnudge.errors import ConfigError
from tests.pages import small_site
from tests.pages.small_site import (
    SITE,
    Visitor,
    is_kept,
    marked,
    ready,
    runs,
    says,
    shows,
)

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake


@pytest.fixture(autouse=True)
def site(real_sessions: NudgeFake, settings: Any) -> None:
    ready(real_sessions, settings)


class Unknown(StringConverter):
    def to_python(self, value: str) -> str:
        raise Http404


register_converter(Unknown, "nudged_unknown")

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


def test_marks_count_where_middleware_chooses_other_urls(settings: Any) -> None:
    settings.MIDDLEWARE = [SITE, f"{small_site.__name__}.OtherUrls"]
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


@pytest.mark.parametrize("browser", [Client, AsyncClient])
def test_what_a_path_converter_raises_is_answered_below(
    browser: type[Client | AsyncClient], settings: Any
) -> None:
    settings.ROOT_URLCONF = (path("<nudged_unknown:name>/", marked),)
    settings.MIDDLEWARE = [SITE, f"{small_site.__name__}.Reading"]
    answer = Visitor(browser).get("/any/")
    assert (answer.status_code, answer.headers["X-Reviews"]) == (404, "0")
