"""The response to one request, as a nudged value.

A page is kept under everything that it read from its request (see `recording`), and under the
headers of its ``Vary``. Both are known only when it is rendered. A response that the view did not
render stays unrendered, because middleware or a framework may still change it. What its rendering
reads from the database belongs to it too.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from asgiref.sync import sync_to_async
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
from django_pgnudge.reader.arguments import digest
from django_pgnudge.reader.executor import Computation, arun, perform_one, run
from django_pgnudge.reader.nested import note, note_unkept
from django_pgnudge.reader.observers import ValueObserver
from django_pgnudge.reader.protocol import Get, Keep, Put, prove, read
from django_pgnudge.reader.scope import entry_name, on_loop
from django_pgnudge.reader.single_flight import flights

if TYPE_CHECKING:
    from django_pgnudge.reader.entries import Stamp
    from django_pgnudge.reader.keys import Coverage, Lease
    from django_pgnudge.reader.protocol import Computed, Observer, Recipe, Step
    from django_pgnudge.reader.value import Value

logger = get_logger("django_pgnudge.nudged")

Steps: TypeAlias = Generator["Step", Any, Any]
MayStore: TypeAlias = "Callable[[Lease | None, Coverage | None, str], bool]"


def answer(page: Page, make: Callable[[], Any]) -> Any:
    """The page from the cache, or what ``make`` returns; blocks."""
    run(page.learn(), page.place, _never)
    if not page.is_named():
        return make()
    prepared = page.value.recipe(on_loop=False, store=page.store)
    if prepared is None:
        return make()
    recipe, page.place = prepared

    def compute() -> Any:
        with page.recording():
            response = make()
        run(page.returned(response), page.place, _never)
        return response

    while True:
        page.begin()
        try:
            done = run(read(page.adapted(recipe), flights), page.place, compute)
            return _whole(page.value.noted(done, page.place))
        except BeingRendered as other:
            other.wait()


async def aanswer(page: Page, make: Callable[[], Awaitable[Any]]) -> Any:
    """``answer`` for a task: the same lines, with await."""
    await arun(page.learn(), page.place, _anever)
    if not await page.ais_named():
        return await make()
    prepared = await page.value.arecipe(page.store)
    if prepared is None:
        return await make()
    recipe, page.place = prepared

    async def compute() -> Any:
        with page.recording():
            response = await make()
        await arun(page.returned(response), page.place, _anever)
        return response

    while True:
        page.begin()
        try:
            done = await arun(read(page.adapted(recipe), flights), page.place, compute)
            return _whole(page.value.noted(done, page.place))
        except BeingRendered as other:
            await other.await_it()


class Page:
    """The response to one request.

    ``base`` is a key of everything that names the page except its inputs. The inputs are learned
    from responses. After one response has read an input, all pages of this address are kept under
    its value.

    ``make_value`` makes the nudged value to look up from a name. ``refused`` says why the response
    may not be shared; it is empty if it may. ``is_hit``: it was served from the cache. ``why`` says
    for what other reason it was not kept.
    """

    def __init__(self, base: str, asked: RequestInputs, make_value: Callable[[str], Value]) -> None:
        self.request = asked.request
        self.refused = ""
        self.why = ""
        self.is_hit = False
        self._asked = asked
        self._base = base
        self._make_value = make_value
        self._list = f"pgnudge:inputs:{base}"
        self._inputs: frozenset[str] | None = None
        self._values: dict[str, str] = {}
        self._reads = self._new_reads()
        self._name_to_keep: str | None = None
        self.value = make_value(f"page of unknown inputs {base}")
        self._what = self.value.what
        self._options = self.value.options
        self._deadline = time.monotonic() + self._options.wait
        self._observer: Observer | None = None
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
            self.value = self._make_value(self._name(self._values))
        return True

    async def ais_named(self) -> bool:
        """The same on an event loop."""
        if self._asked.must_wait(self._inputs or ()):
            return await sync_to_async(self.is_named)()
        return self.is_named()

    def begin(self) -> None:
        """It is looked for in the cache, now or once more."""
        self.is_hit, self.refused, self.why = True, "it has not been made", ""

    @property
    def why_not_kept(self) -> str:
        """Why it was made and not kept, in so far as that is known; else empty."""
        if self.is_hit:
            return ""
        observer = self._observer
        seen = observer.why if isinstance(observer, ValueObserver) else ""
        return self.refused or self.why or seen

    def recording(self) -> AbstractContextManager[None]:
        """Start to record what is read; recording ends when the page is rendered."""
        self.is_hit = False
        self._reads = self._new_reads()
        return self._reads.begun()

    def adapted(self, recipe: Recipe) -> Recipe:
        """The recipe for a page.

        Nobody waits for a page that is not kept, or whose inputs are unknown. A waiting caller
        does not get another caller's response object.
        """
        self._observer = recipe.observer
        return replace(
            recipe,
            wait=self._wait(recipe),
            may_store=partial(self._may_store, recipe.may_store),
            refuse=partial(self._refuse, recipe.refuse),
            hands_over=False,
            is_unfinished=is_late,
            vouch=partial(self._yield_and_vouch, recipe),
        )

    def _may_store(
        self, may_store: MayStore, lease: Lease | None, coverage: Coverage | None, why: str
    ) -> bool:
        may = may_store(lease, coverage, why)
        if not may:
            self.why = why or "the tables it depends on are not known yet, or not in the stream"
        return may

    def _refuse(self, refuse: Callable[[str], None], why: str) -> None:
        self.why = why
        refuse(why)

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

    def store(self, recipe: Recipe, computed: Computed, stamp: Stamp) -> Step | None:
        """Keep the response under this stamp, at once or as soon as it is rendered."""
        response = computed.value
        if self.refused or self.request.method != "GET":
            return None
        if not is_late(response):
            return self._keep_page(recipe, response, stamp)
        rendering = Computation(self.place, observation=computed.observation)
        rendering.go_on()
        viewed = replace(computed, value=None)  # a response that is dropped must go at once
        response.add_post_render_callback(
            lambda made: self._store_late(recipe, made, viewed, stamp, rendering)
        )
        dropped = weakref.finalize(response, rendering.stop)
        dropped.atexit = False
        if self._wait(recipe):
            renderings.begin((recipe.alias, recipe.plan.entry), response)
        return None

    def _store_late(
        self,
        recipe: Recipe,
        response: Any,
        viewed: Computed,
        stamp: Stamp,
        rendering: Computation,
    ) -> None:
        """Keep a response that has just been rendered, in the thread that rendered it.

        ``viewed`` is what the view used, and ``stamp`` was taken before it ran.
        """
        rendering.stop()
        self._reads.stop()
        whole = None
        # A loop must not wait for the cache. It also has no connection, so an open transaction
        # could not be noticed.
        self.refused = self._refusal(response)
        if not (on_loop() or self.refused):
            rendered = rendering.result(response)
            others = (*viewed.others, *rendered.others)
            steps = prove(recipe, replace(rendered, others=others), stamp)
            whole, _ = run(steps, self.place, _never)
        if whole is None:
            if self._options.is_observed:  # what it depends on is not named elsewhere
                note_unkept(self._what)
            return
        note(self.place.ground, whole)
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
            or self._why_site_refuses(response)
        )
        if not why:
            why = self._learn_from(self._headers_in_vary(response))
        vary_on_what_was_used(self.request, response, cookies=self._reads.cookies)
        if why:
            self._say(why)
        return why

    def _new_reads(self) -> RecordedInputs:
        return RecordedInputs(self._asked)

    def _why_site_refuses(self, response: HttpResponseBase) -> str:
        """For what more reasons a rendered response must not be shared; empty if for none."""
        return ""

    def _timeout_of(self, response: HttpResponseBase) -> Any:
        return self._options.timeout

    def _headers_in_vary(self, response: HttpResponseBase) -> frozenset[str]:
        """The headers that name the page, besides those that were read."""
        return vary_of(response) or frozenset()

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
        return Keep(recipe.plan.names.entry(name), stamp, response, self._timeout_of(response))

    def _name(self, values: dict[str, str]) -> str:
        # Always with Authorization: a response names it in Vary only if the request sent it.
        always = {"header authorization": self._asked.value("header authorization")}
        sent = tuple(sorted({**values, **always}.items()))
        return f"page {digest([self._base, sent], self._what)}"


def _whole(response: Any) -> Any:
    """Give a stored response the attributes of a rendered one, which middleware may use."""
    if getattr(response, "is_rendered", False) and not hasattr(response, "context_data"):
        response.template_name, response.context_data = None, {}
    return response


def _never() -> Any:
    raise AssertionError("this asks the cache and computes nothing")


async def _anever() -> Any:
    _never()
