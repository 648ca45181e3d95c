"""Whole pages: ``nudged_page``, like Django's ``cache_page``.

A page is valid as long as the data that its view reads. A decorator that reads such data before the
view must be below this one.

A page is kept under everything that it read from its request (see `recording`), and under the
headers of its ``Vary``. Both are known only when it is rendered. A response that the view did not
render stays unrendered, because middleware or a framework may still change it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, TypeAlias

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.http.response import HttpResponseBase

from django_pgnudge.errors import UnsureError
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.pages.inputs import RequestInputs
from django_pgnudge.pages.recording import MOST_INPUTS, RecordedInputs, note_values
from django_pgnudge.pages.rendering import BeingRendered, renderings
from django_pgnudge.pages.responses import (
    is_late,
    vary_of,
    vary_on_what_was_used,
    why_not_stored,
    why_personal,
)
from django_pgnudge.pages.view_names import ViewName, call_key
from django_pgnudge.reader.arguments import digest, instances_in
from django_pgnudge.reader.declared import declare
from django_pgnudge.reader.decorator import check_dependencies
from django_pgnudge.reader.executor import Computation, arun, perform_one, run
from django_pgnudge.reader.nested import reading_since
from django_pgnudge.reader.protocol import Get, Keep, Put, read
from django_pgnudge.reader.scope import entry_name, on_loop
from django_pgnudge.reader.single_flight import flights
from django_pgnudge.reader.value import WAIT, NudgedOptions, Value

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_pgnudge.reader.dependencies import DependsOn
    from django_pgnudge.reader.entries import Stamp
    from django_pgnudge.reader.protocol import Recipe, Step

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
    """Cache a view's responses until something they depend on changes.

    Like ``cache_page`` it keeps responses with status 200 to GET, by URL and by the headers in
    their ``Vary``; also by everything that was read from the request. It sends no header that lets
    browsers keep a page, because a deletion does not reach browsers.
    """
    check_dependencies(depends_on, "nudged_page()")
    options = NudgedOptions(timeout, cache, using, wait)

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
            if not await page.ais_named():
                return await view(request, *args, **kwargs)
            prepared = await page.value.arecipe(page.store)
            if prepared is None:
                return await view(request, *args, **kwargs)
            recipe, page.place = prepared

            async def compute() -> Any:
                with page.recording():
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
            if not page.is_named():
                return view(request, *args, **kwargs)
            prepared = page.value.recipe(on_loop=False, store=page.store)
            if prepared is None:
                return view(request, *args, **kwargs)
            recipe, page.place = prepared

            def compute() -> Any:
                with page.recording():
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
            asked = RequestInputs(request)
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

    ``base`` is a key of everything that names the page except its inputs. The inputs are learned
    from responses. After one response has read an input, all pages of this address are kept under
    its value.

    ``value`` is the nudged value to look up. ``refused`` says why the response may not be shared;
    it is empty if it may.
    """

    def __init__(
        self,
        base: str,
        asked: RequestInputs,
        depends_on: tuple[DependsOn, ...],
        options: NudgedOptions,
        what: str,
        handed: bool,
    ) -> None:
        self.request = asked.request
        self.refused = "it has not been made"
        self._asked = asked
        self._base = base
        self._depends_on = depends_on
        self._options = options
        self._what = what
        self._handed = handed
        self._since = reading_since() if handed else None
        self._list = f"pgnudge:inputs:{base}"
        self._inputs: frozenset[str] | None = None
        self._values: dict[str, str] = {}
        self._reads = RecordedInputs(asked)
        self._name_to_keep: str | None = None
        self._deadline = time.monotonic() + options.wait
        self.value = self._value(f"page of unknown inputs {base}")
        self.place = self.value.place("")

    def learn(self) -> Steps:
        """Look up the known inputs of this address."""
        names = yield Get(self._list)
        if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
            self._inputs = frozenset(names)

    def is_named(self) -> bool:
        """Find the name to look up from the values of the inputs; may query a database.

        False if an input has no unique value.
        """
        try:
            self._values = note_values(self._asked, self._inputs or ())
        except UnsureError as reason:
            self._say(str(reason))
            return False
        if self._inputs is not None:
            self.value = self._value(self._name(self._values))
        return True

    async def ais_named(self) -> bool:
        """The same on an event loop."""
        if self._asked.must_wait(self._inputs or ()):
            return await sync_to_async(self.is_named)()
        return self.is_named()

    def recording(self) -> AbstractContextManager[None]:
        """Start to record what is read; recording ends when the page is rendered."""
        self._reads = RecordedInputs(self._asked)
        return self._reads.begun()

    def adapted(self, recipe: Recipe) -> Recipe:
        """The recipe for a page.

        Nobody waits for a page that is not kept, or whose inputs are unknown. A waiting caller
        does not get another caller's response object.
        """
        return replace(
            recipe,
            wait=self._wait(recipe),
            hands_over=False,
            vouch=partial(self._yield_and_vouch, recipe),
        )

    def _wait(self, recipe: Recipe) -> float:
        is_known = self._inputs is not None and self.request.method == "GET"
        return recipe.wait if is_known else 0.0

    def _yield_and_vouch(self, recipe: Recipe, stamp: Stamp) -> bool:
        """Raise BeingRendered if another caller is rendering this page and will keep it."""
        if self._wait(recipe):
            renderings.yield_to_another((recipe.alias, recipe.plan.entry), self._deadline)
        return recipe.vouch(stamp)

    def returned(self, response: Any) -> Steps:
        """Decide whether to keep what the view returned; for a late response, after rendering."""
        self.refused = ""
        if not is_late(response):
            self.refused = self._refusal(response)
            if not self.refused:
                yield self._put_list()

    def store(self, recipe: Recipe, response: Any, stamp: Stamp) -> Step | None:
        """Keep the response under this stamp, at once or as soon as it is rendered."""
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
        """Keep a response that has just been rendered, in the thread that rendered it."""
        rendering.stop()
        self._reads.stop()
        # A loop must not wait for the cache. It also has no connection, so an open transaction
        # could not be noticed.
        if on_loop() or self._refusal(response):
            return
        computed = rendering.result(response)
        whole = None if computed.private else stamp.with_others(computed.others)
        if whole is not None:
            perform_one(self._put_list(), self.place)
            if (keep := self._keep_page(recipe, response, whole)) is not None:
                perform_one(keep, self.place)

    def _refusal(self, response: Any) -> str:
        """Why a rendered response must not be shared; empty if it may.

        Decides like Django's UpdateCacheMiddleware, and includes what middleware adds only later.
        Also learns the page's inputs and completes ``Vary``.
        """
        self._reads.stop()
        if (
            self.request.method != "GET"
            or not isinstance(response, HttpResponseBase)
            or response.streaming
            or response.status_code != 200
        ):
            return "it is not a complete response to GET with status 200"
        why = (
            self._reads.why_personal
            or why_personal(self.request, response)
            or why_not_stored(response)
            or self._reads.why_unsure
        )
        if not why:
            why = self._learn_from(vary_of(response) or frozenset())
        vary_on_what_was_used(self.request, response, cookies=self._reads.cookies)
        if why:
            self._say(why)
        return why

    def _learn_from(self, vary: frozenset[str]) -> str:
        """Name the page by everything that was read, and by the headers in its ``Vary``.

        Returns why the page has no name; empty if it has one.
        """
        values = {**self._reads.with_headers(vary), **self._values}
        if len(values) > MOST_INPUTS:
            return f"pages of its address have read more than {MOST_INPUTS} parts of requests"
        self._inputs = frozenset(values)
        known = {each: value for each, value in values.items() if value is not None}
        self._name_to_keep = self._name(known) if len(known) == len(values) else None
        return ""

    def _say(self, why: str) -> None:
        if may_log(f"personal {self._what} {why}"):
            logger.info("nudged: %s was not kept, since %s.", self._what, why)

    def _put_list(self) -> Put:
        return Put(self._list, sorted(self._inputs or ()), self._options.timeout)

    def _keep_page(self, recipe: Recipe, response: HttpResponseBase, stamp: Stamp) -> Keep | None:
        if self._name_to_keep is None:
            return None
        name = entry_name(self._name_to_keep, self.place.scope)
        return Keep(recipe.plan.names.entry(name), stamp, response, self._options.timeout)

    def _name(self, values: dict[str, str]) -> str:
        # Always with Authorization: a response names it in Vary only if the request sent it.
        always = {"header authorization": self._asked.value("header authorization")}
        sent = tuple(sorted({**values, **always}.items()))
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
    """Give a stored response the attributes of a rendered one, which middleware may use."""
    if getattr(response, "is_rendered", False) and not hasattr(response, "context_data"):
        response.template_name, response.context_data = None, {}
    return response


def _never() -> Any:
    raise AssertionError("this asks the cache and computes nothing")


async def _anever() -> Any:
    _never()
