"""``nudged_condition``, like Django's ``condition``: an ETag made of tokens.

While the tokens are unchanged, the view would read the same data again. Then the answer is 304: it
costs one read of the cache, and the view does not run.

A tag lists the inputs of the response (see `recording`), including the headers in its ``Vary``. So
the tag can be computed from a later request before there is a response:
``W/"<digest>.<kind>:<name>.<kind>:<name>"``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import wraps
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.http import parse_etags

from django_pgnudge.errors import UnsureError
from django_pgnudge.log import get_logger, may_log
from django_pgnudge.pages.inputs import RequestInputs
from django_pgnudge.pages.recording import RecordedInputs, note_values
from django_pgnudge.pages.responses import is_late, vary_of, vary_on_what_was_used, why_personal
from django_pgnudge.pages.view_names import ViewName, call_key
from django_pgnudge.reader.arguments import digest
from django_pgnudge.reader.declared import check_dependencies, declare
from django_pgnudge.reader.executor import Computation, Place, arun, run
from django_pgnudge.reader.protocol import stamp_now
from django_pgnudge.reader.scope import on_loop
from django_pgnudge.reader.value import NudgedOptions, Value

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_pgnudge.pages.page import View
    from django_pgnudge.reader.dependencies import DependsOn
    from django_pgnudge.reader.entries import Stamp
    from django_pgnudge.reader.protocol import Computed

logger = get_logger("django_pgnudge.nudged")

_TAG: Final = re.compile(r'(?:W/)?"[0-9a-f]+((?:\.[a-z]+:[A-Za-z0-9_%~-]+)*)"')

_MOST: Final = 40
"""The most inputs that a tag may list; a client can send a forged tag with many more."""


def nudged_condition(
    *depends_on: DependsOn,
    vary_on: Iterable[str] = ("Cookie", "Authorization", "Accept-Language"),
    etag: Callable[..., str] | None = None,
    cache: str | None = None,
    using: str | None = None,
) -> Callable[[View], View]:
    """Answer 304 to a browser that already has what the view would send.

    Two requests share a tag only if they agree in the headers of ``vary_on``, in the headers that
    the response names in ``Vary``, and in everything that was read from the request. The headers of
    ``vary_on`` are added to ``Vary``. ``etag`` gets the view's arguments and returns what else the
    page depends on, such as the version of the code. There is no ETag without a lease, or for a
    personal response.
    """
    check_dependencies(depends_on, "nudged_condition()")
    options = NudgedOptions(cache=cache, using=using, wait=0.0)
    headers = tuple(vary_on)

    def decorate(view: View) -> View:
        name = ViewName(view)
        what = f"condition {name}"
        declare(what, depends_on, options)

        def condition_of(
            request: HttpRequest, args: Any, kwargs: Any, stamp: Stamp, place: Place
        ) -> _Condition | None:
            asked = RequestInputs(request)
            called = call_key(name, asked, args, kwargs, "", what)
            if called is None:
                return None
            more = "" if etag is None else str(etag(request, *args, **kwargs))
            return _Condition(asked, headers, what, (called, stamp.text(), more), stamp, place)

        @wraps(view)
        async def ainner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.method not in ("GET", "HEAD"):
                return await view(request, *args, **kwargs)
            value = Value("condition", depends_on, options, what)
            prepared = await value.arecipe()
            if prepared is None:
                return await view(request, *args, **kwargs)
            recipe, place = prepared
            stamp = await arun(stamp_now(recipe), place, _anever)
            if stamp is None:
                return await view(request, *args, **kwargs)
            condition = condition_of(request, args, kwargs, stamp, place)
            if condition is None:
                return await view(request, *args, **kwargs)
            response = await condition.aanswer()
            if response is None:
                computation = Computation(place)
                with condition.recording(), computation.watched():
                    response = await view(request, *args, **kwargs)
                computed = await sync_to_async(computation.result)(response)
                condition.returned(computed)
            return response

        @wraps(view)
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.method not in ("GET", "HEAD"):
                return view(request, *args, **kwargs)
            value = Value("condition", depends_on, options, what)
            prepared = value.recipe(on_loop=False)
            if prepared is None:
                return view(request, *args, **kwargs)
            recipe, place = prepared
            stamp = run(stamp_now(recipe), place, _never)
            if stamp is None:
                return view(request, *args, **kwargs)
            condition = condition_of(request, args, kwargs, stamp, place)
            if condition is None:
                return view(request, *args, **kwargs)
            response = condition.answer()
            if response is None:
                computation = Computation(place)
                with condition.recording(), computation.watched():
                    response = view(request, *args, **kwargs)
                condition.returned(computation.result(response))
            return response

        return ainner if iscoroutinefunction(view) else inner

    return decorate


class _Condition:
    """The tags of one request; ``said`` is everything in them except its inputs."""

    def __init__(
        self,
        asked: RequestInputs,
        headers: tuple[str, ...],
        what: str,
        said: tuple[str, ...],
        stamp: Stamp,
        place: Place,
    ) -> None:
        self.request = asked.request
        self._asked = asked
        self._reads = RecordedInputs(asked)
        self._headers = headers
        self._always = frozenset(f"header {name.lower()}" for name in headers)
        self._what = what
        self._stamp = stamp
        self._said = said
        self._place = place

    def answer(self) -> Any:
        """304 or 412 if the request's conditions call for it, else None. May query a database."""
        tag, more = self._tag({}), frozenset[str]()
        for sent, inputs in self._sent():
            try:
                made = self._tag(note_values(self._asked, inputs))
            except UnsureError:
                continue
            if made.removeprefix("W/") == sent.removeprefix("W/"):
                tag, more = made, inputs
        response: Any = get_conditional_response(self.request, tag)
        if response is not None and response.status_code == 304:
            self._put_tag(response, tag, more)
        return response

    async def aanswer(self) -> Any:
        """The same on an event loop."""
        if any(self._asked.must_wait(inputs) for _, inputs in self._sent()):
            return await sync_to_async(self.answer)()
        return self.answer()

    def _sent(self) -> Iterator[tuple[str, frozenset[str]]]:
        """The tags that the browser sent, each with its inputs."""
        for sent in parse_etags(self.request.META.get("HTTP_IF_NONE_MATCH", "")):
            if (found := _TAG.fullmatch(sent)) is not None:
                names = [each.split(":") for each in found[1].split(".")[1 : _MOST + 1]]
                yield sent, frozenset(f"{kind} {unquote(name)}" for kind, name in names)

    def recording(self) -> AbstractContextManager[None]:
        """Start to record what is read; recording ends when the response is rendered."""
        return self._reads.begun()

    def returned(self, computed: Computed) -> None:
        """Tag what the view returned. Call it in the same transaction as the view."""
        response = computed.value
        if not isinstance(response, HttpResponseBase) or not self._vouches(computed):
            return
        if is_late(response):
            made: Any = response
            rendering = Computation(self._place)
            rendering.go_on()
            made.add_post_render_callback(lambda done: self._finish_late(done, rendering))
        else:
            self._finish(response)

    def _finish_late(self, response: Any, rendering: Computation) -> None:
        """Tag a response that has just been rendered, in the thread that rendered it."""
        rendering.stop()
        self._reads.stop()
        # On a loop there is no connection, so an open transaction could not be noticed.
        if not on_loop() and self._vouches(rendering.result(response)):
            self._finish(response)

    def _vouches(self, computed: Computed) -> bool:
        """Whether the response depends on nothing but the tag's tokens."""
        whole = None if computed.private else self._stamp.with_others(computed.others)
        if whole is not None and whole.tokens.keys() != self._stamp.tokens.keys():
            if may_log(f"wider {self._what}"):
                logger.warning(
                    "nudged: %s gets no ETag, for it used nudged values that depend on more than it"
                    " names. Name those dependencies in nudged_condition() too.",
                    self._what,
                )
            return False
        return whole is not None

    def _finish(self, response: Any) -> None:
        """Tag a rendered response, if the tag lists everything that it depends on."""
        self._reads.stop()
        if response.status_code != 200 or response.streaming:
            return
        vary_on_what_was_used(self.request, response, cookies=self._reads.cookies)
        vary = vary_of(response) or frozenset()
        reads = self._reads
        if reads.why_unsure or reads.why_personal or why_personal(self.request, response):
            return
        values = reads.with_headers(vary)
        known = {
            each: value
            for each, value in values.items()
            if value is not None and each not in self._always
        }
        if None not in values.values() and len(known) <= _MOST:
            self._put_tag(response, self._tag(known), frozenset(known))

    def _put_tag(self, response: Any, tag: str, inputs: frozenset[str]) -> None:
        response.headers.setdefault("ETag", tag)
        headers = sorted(each[7:] for each in inputs if each.startswith("header "))
        patch_vary_headers(response, (*self._headers, *headers))

    def _tag(self, values: dict[str, str]) -> str:
        # Always with Authorization: a response names it in Vary only if the request sent it.
        always = {"header authorization", *self._always}
        sent = {**values, **{each: self._asked.value(each) for each in always}}
        made = digest([self._said, tuple(sorted(sent.items()))], self._what)
        return 'W/"' + ".".join([made, *sorted(map(_written, values))]) + '"'


def _written(name: str) -> str:
    """An input as it is written in a tag."""
    kind, _, name = name.partition(" ")
    return f"{kind}:{quote(name, safe='').replace('.', '%2E')}"


def _never() -> Any:
    raise AssertionError("taking a stamp computes nothing")


async def _anever() -> Any:
    _never()
