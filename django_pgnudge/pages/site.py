"""Every page of a site: what ``NudgedSiteMiddleware`` does with a request.

It is the first to see a request, when there is no session or user yet. A page is kept under its
address and under what was read of the request below (see `site_inputs`), and depends on what was
read of the database below, by middleware too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.conf import settings
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.http.response import HttpResponseBase
from django.urls import resolve
from django.utils import timezone, translation
from django.utils.cache import get_conditional_response, get_max_age
from django.utils.http import parse_http_date_safe

from django_pgnudge.conf import conf
from django_pgnudge.log import escape, get_logger, may_log
from django_pgnudge.pages import cached_page
from django_pgnudge.pages.busy_tables import MOST_IN_A_ROW, REST, BusyTables
from django_pgnudge.pages.cached_page import Page
from django_pgnudge.pages.inputs import RequestInputs, raw
from django_pgnudge.pages.marks import MARKED, NEVER, mark_of, mark_on
from django_pgnudge.pages.responses import is_late, named, vary_of
from django_pgnudge.pages.site_inputs import LANGUAGE, SiteInputs, looks
from django_pgnudge.reader.arguments import digest
from django_pgnudge.reader.value import NudgedOptions, Value

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_pgnudge.reader.entries import Stamp
    from django_pgnudge.reader.protocol import Keep, Recipe

logger = get_logger("django_pgnudge.nudged")

HEADER: Final = "X-Nudged"

_KEPT_ELSEWHERE: Final = {"django.contrib.sites": "sites.Site", "wagtail": "wagtailcore.Site"}
"""Models of which these apps keep rows in memory, or in a cache, from request to request.

Most pages show them, and no query tells which.
"""

_NOT_MARKED: Final = "its view is not marked by nudged_site"
_NEVER: Final = "its view is marked by never_nudged"

_COMPARED: Final = "meta HTTP_IF_MATCH"
"""What Django's ``get_conditional_response`` reads too, and what counts as an input."""

_ONCE: Final = 3600.0
"""Seconds between two equal lines about a busy table."""


class Site:
    """The pages of one middleware."""

    def __init__(self) -> None:
        self.busy = BusyTables()
        self._marked_routes: set[str] = set()
        self._has_other_urls = False
        """Whether a request's ``urlconf`` was set below: then views cannot be found here."""

    def answer(self, request: HttpRequest, get_response: Callable[[Any], Any]) -> Any:
        """The response, from the cache or from below; blocks."""
        page = self._page_of(request)
        with _language_and_zone_put_back() as done:
            if isinstance(page, str):
                response = done(get_response(request))
            else:
                response = done(cached_page.answer(page, partial(get_response, request)))
        return self._answered(request, page, response)

    async def aanswer(
        self, request: HttpRequest, get_response: Callable[[Any], Awaitable[Any]]
    ) -> Any:
        """``answer`` for a task: the same lines, with await."""
        page = self._page_of(request)
        with _language_and_zone_put_back() as done:
            if isinstance(page, str):
                response = done(await get_response(request))
            else:
                make = partial(get_response, request)
                response = done(await cached_page.aanswer(page, make))
        return self._answered(request, page, response)

    def _page_of(self, request: HttpRequest) -> SitePage | str:
        """The page, or why it is not even looked for."""
        if request.method not in ("GET", "HEAD"):
            return f"its method is {request.method}"
        seconds = settings.CACHE_MIDDLEWARE_SECONDS
        if seconds is not None and seconds <= 0:
            return "CACHE_MIDDLEWARE_SECONDS is 0"
        route, view = _route_of(request)
        if (why := self._why_not(route, view)) is not None:
            return why
        what = f"site {route}"
        try:
            prefix = settings.CACHE_MIDDLEWARE_KEY_PREFIX
            # A page that was made when other looks counted is another.
            base = digest(["site", prefix, *sorted(looks()), *named(request)], what)
        except (SuspiciousOperation, BadRequest):
            return "its host is not allowed"
        options = NudgedOptions(seconds, is_observed=True)

        kept = [label for app, label in _KEPT_ELSEWHERE.items() if apps.is_installed(app)]

        def make_value(name: str) -> Value:
            return Value(name, kept, options, what)

        return SitePage(self, route, base, RequestInputs(request), make_value)

    def _why_not(self, route: str, view: object) -> str | None:
        mark = mark_on(view)
        if mark == NEVER:
            return _NEVER
        is_all = conf.NUDGED["SITE"] != "marked" or self._has_other_urls
        if not is_all and mark != MARKED and route not in self._marked_routes:
            return _NOT_MARKED
        busy = self.busy.resting_for(route)
        return None if busy is None else f"{_table_of(busy)} changes between any two requests"

    def _answered(self, request: HttpRequest, page: SitePage | str, response: Any) -> Any:
        self._has_other_urls |= raw(request).get("urlconf") is not None
        if mark_of(request) == MARKED:
            self._marked_routes.add(_route_of(request)[0] if isinstance(page, str) else page.route)
        if not isinstance(page, str) and page.is_hit:
            self.busy.hit(page.route)
            if page.is_answered_conditionally:
                response = _answered_conditionally(request, response)
        if isinstance(response, HttpResponseBase) and (settings.DEBUG or conf.NUDGED["HEADER"]):
            why = page if isinstance(page, str) else page.why_not_kept
            said = "hit" if not isinstance(page, str) and page.is_hit else "miss"
            response.headers[HEADER] = f"bypass; {escape(why)}" if why else said
        return response


class SitePage(Page):
    """The response of the whole site to one request."""

    def __init__(
        self,
        site: Site,
        route: str,
        base: str,
        asked: RequestInputs,
        make_value: Callable[[str], Value],
    ) -> None:
        super().__init__(base, asked, make_value)
        self.route = route
        self._site = site

    @property
    def is_answered_conditionally(self) -> bool:
        """Whether Django compared what a browser has with such a page when it was made."""
        return _COMPARED in (self._inputs or ())

    def _new_reads(self) -> SiteInputs:
        return SiteInputs(self._asked)

    def _why_site_refuses(self, response: HttpResponseBase) -> str:
        mark = mark_of(self.request)
        if mark == NEVER:
            return _NEVER
        if mark != MARKED and conf.NUDGED["SITE"] == "marked":
            return _NOT_MARKED
        return "its max-age is 0" if get_max_age(response) == 0 else ""

    def _timeout_of(self, response: HttpResponseBase) -> Any:
        max_age = get_max_age(response)
        return self._options.timeout if max_age is None else max_age

    def _headers_in_vary(self, response: HttpResponseBase) -> frozenset[str]:
        """Without those that Django's middleware names for what is recorded more exactly."""
        found = vary_of(response) or frozenset()
        if getattr(raw(self.request).get("session"), "accessed", False):
            found -= {"cookie"}
        return found - {"accept-language"} if LANGUAGE in self._reads.values else found

    def _keep_page(self, recipe: Recipe, response: HttpResponseBase, stamp: Stamp) -> Keep | None:
        keep = super()._keep_page(recipe, response, stamp)
        if keep is not None:
            busy = self._site.busy.stored(self.route, keep.key, stamp.tokens)
            if busy is not None and may_log(f"busy {self.route} {busy}", _ONCE):
                logger.warning(
                    "nudged: pages of %s are computed for %d seconds and not kept: %s has changed"
                    " between each of the last %d requests for one of them. Mark the view by"
                    " never_nudged, or read that table elsewhere.",
                    self._what,
                    REST,
                    _table_of(busy),
                    MOST_IN_A_ROW,
                )
        return keep

    def _refuse(self, refuse: Callable[[str], None], why: str) -> None:
        # That a page is its reader's, or has written, is usual on a whole site.
        self.why = why
        self._say(why)


def _route_of(request: HttpRequest) -> tuple[str, object]:
    """The route of a request and its view; unknown ones share a name, which is only for logs and
    for what is learned.

    Below another ``urlconf`` may be set, or another language.
    """
    try:
        match = resolve(request.path_info)
    except Exception:  # of path converters too; what is raised is raised again below
        return "?", None
    return f"/{match.route}", match.func


def _table_of(token: str) -> str:
    """The payload in a token's key."""
    return token.rpartition(":table:")[2] or token


def _answered_conditionally(request: HttpRequest, response: Any) -> Any:
    """304 if the browser has this page already, as Django's middleware would answer."""
    changed = response.headers.get("Last-Modified")
    etag = response.headers.get("ETag")
    if etag is None and changed is None:
        return response
    at = None if changed is None else parse_http_date_safe(changed)
    return get_conditional_response(request, etag=etag, last_modified=at, response=response)


@contextmanager
def _language_and_zone_put_back() -> Iterator[Callable[[Any], Any]]:
    """Put back what middleware below has activated in this thread.

    Else it would be there at the thread's next request, whose page would be kept for it. A stream
    is still to be made, with what is active.
    """
    language: str | None = translation.get_language()
    zone = timezone.get_current_timezone()
    responses: list[Any] = []

    def done(response: Any) -> Any:
        responses.append(response)
        return response

    yield done
    if any(getattr(each, "streaming", False) or is_late(each) for each in responses):
        return
    if translation.get_language() != language:
        if language is None:
            translation.deactivate_all()
        else:
            translation.activate(language)
    if timezone.get_current_timezone() is not zone:
        if zone is timezone.get_default_timezone():
            timezone.deactivate()
        else:
            timezone.activate(zone)
