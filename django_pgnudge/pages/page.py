"""Whole pages: ``nudged_page``, like Django's ``cache_page``.

A page is valid as long as the data that its view reads. A decorator that reads such data before the
view must be below this one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeAlias

from asgiref.sync import iscoroutinefunction
from django.conf import settings

from django_pgnudge.pages.cached_page import Page, aanswer, answer
from django_pgnudge.pages.inputs import RequestInputs
from django_pgnudge.pages.view_names import ViewName, call_key
from django_pgnudge.reader.arguments import instances_in, unwrapped
from django_pgnudge.reader.declared import declare, observes
from django_pgnudge.reader.dependencies import listed
from django_pgnudge.reader.nested import reading_since
from django_pgnudge.reader.value import WAIT, NudgedOptions, Value

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_pgnudge.reader.decorator import DependsOnArguments
    from django_pgnudge.reader.dependencies import DependsOn

View: TypeAlias = Callable[..., Any]


def nudged_page(
    timeout: float | None,
    *dependencies: DependsOn,
    depends_on: DependsOnArguments | None = None,
    observe: bool | None = None,
    cache: str | None = None,
    key_prefix: str | None = None,
    using: str | None = None,
    wait: float = WAIT,
) -> Callable[[View], View]:
    """Cache a view's responses until something they depend on changes.

    Like ``cache_page`` it keeps responses with status 200 to GET, by URL and by the headers in
    their ``Vary``; also by everything that was read from the request. It sends no header that lets
    browsers keep a page, because a deletion does not reach browsers.

    Without ``dependencies`` a page depends on what PostgreSQL says the view and its templates read.
    ``depends_on`` gets the view's arguments and returns more dependencies. If any are named, a page
    depends on these alone, or with ``observe=True`` also on what was read.
    """
    observe = observes(dependencies, depends_on, observe, "nudged_page()")
    options = NudgedOptions(timeout, cache, using, wait, observe)

    def decorate(view: View) -> View:
        name = ViewName(view)
        what = f"page {name}"
        declare(what, dependencies, options)

        @wraps(view)
        async def ainner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            page = _page_of(request, args, kwargs)
            if page is None:
                return await view(request, *args, **kwargs)
            return await aanswer(page, partial(view, request, *args, **kwargs))

        @wraps(view)
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            page = _page_of(request, args, kwargs)
            if page is None:
                return view(request, *args, **kwargs)
            return answer(page, partial(view, request, *args, **kwargs))

        def _page_of(request: HttpRequest, args: Any, kwargs: Any) -> Page | None:
            if request.method not in ("GET", "HEAD"):
                return None
            asked = RequestInputs(request)
            prefix = settings.CACHE_MIDDLEWARE_KEY_PREFIX if key_prefix is None else key_prefix
            base = call_key(name, asked, args, kwargs, prefix, what)
            if base is None:
                return None
            entries: tuple[DependsOn, ...] = dependencies
            if depends_on is not None:
                more = listed(depends_on(request, *args, **kwargs))
                entries = (*entries, *map(unwrapped, more))
            handed = any(True for _ in instances_in([*args, *kwargs.values()]))
            since = reading_since() if handed else None

            def make_value(name: str) -> Value:
                return Value(name, entries, options, what, handed=handed, since=since)

            return Page(base, asked, make_value)

        return ainner if iscoroutinefunction(view) else inner

    return decorate
