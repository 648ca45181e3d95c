"""Whole pages: ``nudged_page`` in the manner of ``cache_page``.

A page goes stale with what its view reads. A decorator that reads what the page shows, before the
view, belongs below this one.

Whether a response is kept, and under which name, is decided when it is rendered: only then is it
known what it used of its reader. A response that its view has not rendered is left so, for what
middleware, and the framework above, have to say to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeAlias

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http.response import HttpResponseBase

from django_pgnudge.fresh.arguments import digest, instances_in
from django_pgnudge.fresh.declared import declare
from django_pgnudge.fresh.decorator import check_dependencies
from django_pgnudge.fresh.driving import Computation, Place, arun, perform_one, run
from django_pgnudge.fresh.flights import flights
from django_pgnudge.fresh.reading import read
from django_pgnudge.fresh.rendering import BeingRendered, renderings
from django_pgnudge.fresh.requests import (
    django_request,
    headers_sent,
    is_late,
    vary_of,
    vary_on_what_was_used,
    watch,
    why_not_stored,
    why_personal,
)
from django_pgnudge.fresh.scope import entry_name, on_loop
from django_pgnudge.fresh.seldom import seldom
from django_pgnudge.fresh.sightings import reading_since
from django_pgnudge.fresh.steps import Get, Keep, Put
from django_pgnudge.fresh.values import WAIT, Options, Value
from django_pgnudge.fresh.views import ViewName, call_key
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

Steps: TypeAlias = Generator["Step", Any, None]


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
        name = ViewName(view)
        what = f"page {name}"
        declare(what, depends_on, options)

        @wraps(view)
        async def ainner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            page = _page_of(request, args, kwargs)
            if page is None:
                return await view(request, *args, **kwargs)

            await arun(page.learn(), page.place, _anever)
            prepared = await page.value.arecipe(page.store)
            if prepared is None:
                return await view(request, *args, **kwargs)
            recipe, page.place = prepared

            async def compute() -> Any:
                watch(page.request)
                response = await view(request, *args, **kwargs)
                await arun(page.returned(response), page.place, _anever)
                return response

            while True:
                steps = read(page.adapted(recipe), flights)
                try:
                    done = await arun(steps, page.place, compute)
                    return _whole(page.value.noted(done, page.place))
                except BeingRendered as other:
                    await other.await_it()

        @wraps(view)
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            page = _page_of(request, args, kwargs)
            if page is None:
                return view(request, *args, **kwargs)

            run(page.learn(), page.place, _never)
            prepared = page.value.recipe(on_loop=False, store=page.store)
            if prepared is None:
                return view(request, *args, **kwargs)
            recipe, page.place = prepared

            def compute() -> Any:
                watch(page.request)
                response = view(request, *args, **kwargs)
                run(page.returned(response), page.place, _never)
                return response

            while True:
                steps = read(page.adapted(recipe), flights)
                try:
                    done = run(steps, page.place, compute)
                    return _whole(page.value.noted(done, page.place))
                except BeingRendered as other:
                    other.wait()

        def _page_of(request: HttpRequest, args: Any, kwargs: Any) -> _Page | None:
            if request.method not in ("GET", "HEAD"):
                return None
            asked = django_request(request)
            prefix = settings.CACHE_MIDDLEWARE_KEY_PREFIX if key_prefix is None else key_prefix
            base = call_key(name, asked, args, kwargs, prefix, what)
            if base is None:
                return None
            handed = any(True for _ in instances_in([*args, *kwargs.values()]))
            return _Page(base, asked, depends_on, options, what, handed)

        return ainner if iscoroutinefunction(view) else inner

    return decorate


class _Page:
    """The response to one request.

    ``base`` is a key of all that names it but headers: which of those do is learned from responses,
    and a header that one of them has named tells the pages of this address apart from then on.

    ``value`` is what is looked for. ``refused`` says why what the view returned is not everybody's,
    or is empty.
    """

    def __init__(
        self,
        base: str,
        request: HttpRequest,
        depends_on: tuple[DependsOn, ...],
        options: Options,
        what: str,
        handed: bool,
    ) -> None:
        self.request = request
        self.refused = "it has not been made"
        self._base = base
        self._depends_on = depends_on
        self._options = options
        self._what = what
        self._handed = handed
        self._since = reading_since() if handed else None
        self._list = f"pgnudge:headers:{base}"
        self._headers: frozenset[str] | None = None
        self._deadline = time.monotonic() + options.wait
        self.value = self._value(f"page of unknown headers {base}")
        self.place = Place(self.value.alias, self.value.using, what, "", self.value.scope)

    def learn(self) -> Steps:
        """Ask which headers tell the pages of this address apart."""
        names = yield Get(self._list)
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            self._headers = frozenset(names)
            self.value = self._value(self._name(self._headers))

    def adapted(self, recipe: Recipe) -> Recipe:
        """Nobody waits for a page that is not kept, or of which the headers are not known yet; and
        nobody is handed one that was made for somebody else.
        """
        return replace(
            recipe,
            wait=self._wait(recipe),
            hands_over=False,
            vouch=partial(self._yield_and_vouch, recipe),
        )

    def _wait(self, recipe: Recipe) -> float:
        is_known = self._headers is not None and self.request.method == "GET"
        return recipe.wait if is_known else 0.0

    def _yield_and_vouch(self, recipe: Recipe, stamp: Stamp) -> bool:
        """Raise BeingRendered if somebody is about to keep what could be kept here."""
        if self._wait(recipe):
            renderings.yield_to_another((recipe.alias, recipe.plan.entry), self._deadline)
        return recipe.vouch(stamp)

    def returned(self, response: Any) -> Steps:
        """The view has returned; one that is to be rendered yet is judged when it is."""
        self.refused = "" if is_late(response) else self._refusal(response)
        if not self.refused and not is_late(response):
            yield self._put_list(response)

    def store(self, recipe: Recipe, response: Any, stamp: Stamp) -> Step | None:
        """Keep what was computed under this stamp: at once, or as soon as it is rendered."""
        if self.refused or self.request.method != "GET":
            return None
        if not is_late(response):
            return self._keep_page(recipe, response, stamp)
        rendering = Computation(self.place)
        rendering.go_on()
        response.add_post_render_callback(
            lambda made: self._store_late(recipe, made, stamp, rendering)
        )
        if self._wait(recipe):
            renderings.begin((recipe.alias, recipe.plan.entry), response)
        return None

    def _store_late(
        self, recipe: Recipe, response: Any, stamp: Stamp, rendering: Computation
    ) -> None:
        """Keep a response that has just been rendered, in the thread that did it."""
        rendering.stop()
        # A loop must not wait for the cache, and has no connection whose transaction would tell.
        if on_loop() or self._refusal(response):
            return
        computed = rendering.result(response)
        whole = None if computed.private else stamp.with_others(computed.others)
        if whole is not None:
            perform_one(self._put_list(response), self.place)
            perform_one(self._keep_page(recipe, response, whole), self.place)

    def _refusal(self, response: Any) -> str:
        """Why others may not be shown this, now that it is rendered; or its ``Vary`` says to whom.

        As Django's UpdateCacheMiddleware decides, and of what middleware would only add later.
        """
        if (
            self.request.method != "GET"
            or not isinstance(response, HttpResponseBase)
            or response.streaming
            or response.status_code != 200
        ):
            return "it is no whole response to GET with status 200"
        vary_on_what_was_used(self.request, response)
        why = why_personal(self.request, response) or why_not_stored(response)
        if why and seldom(f"personal {self._what} {why}"):
            logger.info("nudged: %s was not kept, since %s.", self._what, why)
        return why

    def _put_list(self, response: HttpResponseBase) -> Put:
        return Put(self._list, sorted(self._headers_of(response)), self._options.timeout)

    def _keep_page(self, recipe: Recipe, response: HttpResponseBase, stamp: Stamp) -> Keep:
        name = entry_name(self._name(self._headers_of(response)), self.place.scope)
        return Keep(recipe.plan.names.entry(name), stamp, response, self._options.timeout)

    def _headers_of(self, response: HttpResponseBase) -> frozenset[str]:
        return (self._headers or frozenset()) | (vary_of(response) or frozenset())

    def _name(self, headers: frozenset[str]) -> str:
        # Always the Authorization too: a response names it only to those who have sent one.
        sent = headers_sent(self.request, {"authorization", *headers})
        return f"page {digest([self._base, sent], self._what)}"

    def _value(self, name: str) -> Value:
        return Value(
            name,
            self._depends_on,
            self._options,
            self._what,
            handed=self._handed,
            since=self._since,
        )


def _whole(response: Any) -> Any:
    """A stored response lacks what its template was given, which middleware may want to add to."""
    if getattr(response, "is_rendered", False) and not hasattr(response, "context_data"):
        response.template_name, response.context_data = None, {}
    return response


def _never() -> Any:
    raise AssertionError("this asks the cache and computes nothing")


async def _anever() -> Any:
    _never()
