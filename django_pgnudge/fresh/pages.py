"""Whole pages: ``nudged_page`` in the manner of ``cache_page``.

A page goes stale with what its view reads. A decorator that reads what the page shows, before the
view, belongs below this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache as remember
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeAlias

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.core.cache import caches
from django.utils.cache import get_cache_key, has_vary_header, learn_cache_key, patch_vary_headers
from django.utils.module_loading import import_string

from django_pgnudge.fresh.decorator import check_dependencies
from django_pgnudge.fresh.driving import arun, perform_one, run
from django_pgnudge.fresh.flights import flights
from django_pgnudge.fresh.reading import read
from django_pgnudge.fresh.steps import Keep
from django_pgnudge.fresh.values import WAIT, Options, Value
from django_pgnudge.log import get_logger

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_pgnudge.fresh.dependencies import DependsOn
    from django_pgnudge.fresh.entries import Stamp
    from django_pgnudge.fresh.reading import Recipe
    from django_pgnudge.fresh.steps import Step

__all__ = ["View", "nudged_page"]

logger = get_logger("django_pgnudge.nudged")

View: TypeAlias = Callable[..., Any]


def nudged_page(
    timeout: float | None,
    *depends_on: DependsOn,
    cache: str | None = None,
    key_prefix: str | None = None,
    using: str | None = None,
    wait: float = WAIT,
) -> Callable[[View], View]:
    """Cache a view's responses for as long as nothing they depend on changes.

    As ``cache_page`` does it: those with status 200 to GET, by URL and by the headers that their
    ``Vary`` names. No header tells browsers to keep a page: a deletion does not reach them.
    """
    check_dependencies(depends_on, "nudged_page()")
    options = Options(timeout, cache, using, wait)

    def decorate(view: View) -> View:
        what = f"page {view.__module__}.{getattr(view, '__qualname__', type(view).__name__)}"
        page = partial(_Page, depends_on, options, key_prefix, what)

        @wraps(view)
        async def ainner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.method not in ("GET", "HEAD"):
                return await view(request, *args, **kwargs)
            this = await sync_to_async(page)(request)
            prepared = await this.value.arecipe(this.store)

            async def compute() -> Any:
                response = await view(request, *args, **kwargs)
                return await sync_to_async(_rendered)(response)

            if prepared is None:
                return await view(request, *args, **kwargs)
            recipe, place = prepared
            this.place = place
            return this.value.noted(
                await arun(read(this.adapted(recipe), flights), place, compute), place
            )

        @wraps(view)
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.method not in ("GET", "HEAD"):
                return view(request, *args, **kwargs)
            this = page(request)
            prepared = this.value.recipe(on_loop=False, store=this.store)
            if prepared is None:
                return view(request, *args, **kwargs)
            recipe, place = prepared
            this.place = place
            done = run(
                read(this.adapted(recipe), flights),
                place,
                lambda: _rendered(view(request, *args, **kwargs)),
            )
            return this.value.noted(done, place)

        return ainner if iscoroutinefunction(view) else inner

    return decorate


class _Page:
    """The response to one request."""

    def __init__(
        self,
        depends_on: tuple[DependsOn, ...],
        options: Options,
        key_prefix: str | None,
        what: str,
        request: HttpRequest,
    ) -> None:
        self._request = request
        self._options = options
        self._prefix = settings.CACHE_MIDDLEWARE_KEY_PREFIX if key_prefix is None else key_prefix
        self._name = self._known_name()
        name = self._name or f"of no known Vary {request.build_absolute_uri()}"
        self.value = Value(f"page {name}", depends_on, options, what)

    def adapted(self, recipe: Recipe) -> Recipe:
        """Nobody waits for a page whose headers are not known yet: theirs may be another."""
        return recipe if self._name is not None else replace(recipe, wait=0.0)

    def store(self, recipe: Recipe, response: Any, stamp: Stamp) -> Step | None:
        """Keep what may be kept, under the name that its ``Vary`` gives it."""
        if not _may_keep(self._request, response):
            return None
        name = self._learnt_name(recipe, response)
        if name is None:
            return None
        entry, timeout = recipe.plan.names.entry(f"page {name}"), recipe.timeout
        if getattr(response, "is_rendered", True):
            return Keep(entry, stamp, response, timeout)
        response.add_post_render_callback(
            lambda made: perform_one(Keep(entry, stamp, made, timeout), self.place)
        )
        return None

    def _known_name(self) -> str | None:
        try:
            return get_cache_key(self._request, self._prefix, "GET", caches[self._options.alias])
        except Exception:  # a broken cache, of which the reader will complain
            return None

    def _learnt_name(self, recipe: Recipe, response: Any) -> str | None:
        # Never 0, which would keep nothing, nor None, which is Django's word for its own default.
        lifetime = 10**9 if recipe.lifetime is None else max(1, int(recipe.lifetime))
        cache = caches[self._options.alias]
        try:
            return str(learn_cache_key(self._request, response, lifetime, self._prefix, cache))
        except Exception:
            return None


def _may_keep(request: HttpRequest, response: Any) -> bool:
    """As Django's UpdateCacheMiddleware decides, and of what middleware would only add later:

    a page that used the session varies on the cookie, and one with a CSRF token is its reader's.
    """
    if request.method != "GET" or response.streaming or response.status_code != 200:
        return False
    if request.META.get("CSRF_COOKIE_NEEDS_UPDATE"):
        return False
    session = getattr(request, "session", None)
    if session is not None and getattr(session, "accessed", False):
        if session.modified:
            return False
        patch_vary_headers(response, ("Cookie",))
    if response.cookies and has_vary_header(response, "Cookie"):
        return False
    control = response.get("Cache-Control", "").lower()
    if any(word in control for word in ("private", "no-cache", "no-store")):
        return False
    if request.headers.get("Authorization") and "public" not in control:
        patch_vary_headers(response, ("Authorization",))
    return not has_vary_header(response, "*")


def _rendered(response: Any) -> Any:
    """Render now, unless a middleware has something to say to the template's context."""
    if not getattr(response, "is_rendered", True) and not _context_is_touched(
        tuple(settings.MIDDLEWARE)
    ):
        return response.render()
    return response


@remember
def _context_is_touched(middleware: tuple[str, ...]) -> bool:
    return any(hasattr(import_string(path), "process_template_response") for path in middleware)
