"""Records what is read from a request: the request and its parts get classes that record reads.

A request stays the same object with the same attributes. If several pages and fragments are being
made, one inside the other, a read is recorded for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import MemberDescriptorType
from typing import Any, Final

from django.contrib.sessions.backends.base import SessionBase
from django.http.request import HttpHeaders
from django.urls import ResolverMatch
from django.utils.functional import SimpleLazyObject, empty

from django_pgnudge.errors import UnsureError
from django_pgnudge.pages.inputs import (
    HOLDERS,
    RequestInputs,
    is_known_when_asked,
    is_pending,
    is_session,
    loads_its_row,
    raw,
)
from django_pgnudge.pages.recording_classes import (
    SESSION_CHANGED,
    WATCH,
    Headers,
    Items,
    NotedHolder,
    NotedSession,
    holder_that_notes,
    session_that_notes,
)

MOST_INPUTS: Final = 200
"""The most inputs of the pages of one address, or of one fragment. The names of inputs are learned;
code that reads a cookie of another name for each visitor would give a list without end."""

_NAMED: Final = frozenset(
    {"GET", "LANGUAGE_CODE", "_encoding", "method", "path", "path_info", "urlconf"}
)
"""Attributes that come from the address, see `responses.named`."""

_TOKEN: Final = "CSRF_COOKIE_NEEDS_UPDATE"  # noqa: S105 - an item of META
"""Django's ``get_token`` writes it on each call, for the middleware."""

_BODY: Final = frozenset({"_body", "_read_started", "_stream"})

_MAPPINGS: Final = {
    "COOKIES": "cookie", "META": "meta", "environ": "meta", "headers": "header", "scope": "scope",
}  # fmt: skip
"""The attributes that are mappings, and the kind of input of their items."""


class RecordedInputs:
    """What was read from a request between `start` and `stop`.

    ``values`` has each input with its value at the first read; None if the value can only be found
    by reading it before the view runs. ``why_unsure`` says which input has no unique value. With
    ``address_is_named``, parts of the address are not inputs, because the name contains them.
    """

    def __init__(self, asked: RequestInputs, *, address_is_named: bool = True) -> None:
        self.values: dict[str, str | None] = {}
        self.why_unsure = ""
        self._asked = asked
        self._given = _NAMED if address_is_named else frozenset()
        self._written: set[str] = set()
        self._pending: dict[str, object] = {}
        self._before: dict[str, dict[str, Any]] = {}
        self._had_loaded = False

    @contextmanager
    def begun(self) -> Iterator[None]:
        """Start to record. Recording continues after the block, unless the block raises."""
        self.start()
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def start(self) -> None:
        watch = _watch_of(self._asked)
        self._before = {kind: dict(self._asked.held(kind)) for kind in HOLDERS}
        self._had_loaded = "_session_cache" in self._before["store"]
        watch.active.append(self)

    def stop(self) -> None:
        """Stop recording. A lazy object that was not evaluated does not count as read."""
        watch = raw(self._asked.request).get(WATCH)
        if watch is not None and self in watch.active:
            watch.active.remove(self)
            for name, lazy in self._pending.items():
                if is_pending(lazy):
                    self.values.pop(name, None)
            if not watch.active:
                watch.put_back()

    @property
    def why_personal(self) -> str:
        """Why the result is personal and must not be shared; empty if it may be shared."""
        if f"meta {_TOKEN}" in self._written:
            return "it used the CSRF token"
        if SESSION_CHANGED in self._written:
            return "it changed the session"
        return ""

    @property
    def began_with_body_read(self) -> bool:
        return bool(self._before["attribute"].get("_read_started"))

    @property
    def cookies(self) -> bool:
        """Whether any cookie was read in any way."""
        return any(
            each.startswith(("cookie ", "session "))
            or each in ("header cookie", "meta HTTP_COOKIE", "all cookie", "all header", "all meta")
            for each in self.values
        )

    def with_headers(self, names: Iterable[str]) -> dict[str, str | None]:
        """The values, together with those of the named headers, which may not have been read."""
        named = {f"header {name}" for name in names}
        more = {each: self._asked.value(each) for each in named - self.values.keys()}
        return {**self.values, **more}

    def lacks(self, name: str) -> bool:
        """Whether an input was not recorded yet, and was not written since the start."""
        if name in self.values or name in self._written:
            return False
        kind, _, attribute = name.partition(" ")
        before = self._before.get(kind)
        if before is None:
            return True
        if kind == "attribute" and attribute in self._given:
            return False
        if kind == "wrapper" and self._asked.wrapper is None:
            return False  # the wrapper was made from the request after the start
        now = self._asked.held(kind)
        return before.get(attribute, _NOTHING) is now.get(attribute, _NOTHING)

    def take(self, name: str, value: str | None, lazy: object = None) -> None:
        self.values[name] = value
        if lazy is not None:
            self._pending[name] = lazy
        elif value is not None:
            self._pending.pop(name, None)

    def wrote(self, name: str) -> None:
        self._written.add(name)

    def holds_back(self, name: str) -> bool:
        """Whether this read does not count, or not yet."""
        return False

    def follow(self, name: str) -> None:
        """Count what was held back if this read depends on it."""

    @property
    def expects_session(self) -> bool:
        """Whether a session that the request is given later was made of what is recorded."""
        return False

    def must_have_data(self, session: SessionBase) -> bool:
        """Whether the session's data are an input: its row's read was not seen, or it has none."""
        return self._had_loaded or not loads_its_row(session)


def note_values(asked: RequestInputs, inputs: Iterable[str]) -> dict[str, str]:
    """The current values of these inputs; the reads are recorded for everything else being made.

    Raises UnsureError, also if a lazy attribute fails: this request may not need that attribute.
    """
    watch = raw(asked.request).get(WATCH)
    found = {}
    for each in sorted(inputs):
        try:
            found[each] = value = asked.value(each)
        except UnsureError:
            raise
        except Exception as error:  # a lazy attribute runs foreign code
            why = f"{_said(each)} raised {type(error).__name__} when it was read"
            raise UnsureError(why) from error
        if watch is not None:
            watch.note(each, lambda value=value: value)
    return found


def note_read(asked: RequestInputs, name: str) -> None:
    """Record an input that was read in another way than through the request."""
    watch = raw(asked.request).get(WATCH)
    if watch is not None:
        watch.note(name)


def note_token(asked: RequestInputs) -> None:
    """Record the read of a CSRF token that was made earlier."""
    watch = raw(asked.request).get(WATCH)
    if watch is not None:
        watch.wrote(f"meta {_TOKEN}")


def ask_again(lazy: object, asking: Callable[[], object] = lambda: None) -> None:
    """Reset a lazy object that was evaluated, so that its next evaluation calls ``asking``."""
    held = raw(lazy)
    found = held["_wrapped"]
    if found is empty:
        return

    def say() -> Any:
        asking()
        return found

    held["_setupfunc"], held["_wrapped"] = say, empty


class _Watch:
    """Distributes the reads of one request to everything that records them."""

    def __init__(self, asked: RequestInputs) -> None:
        self.active: list[RecordedInputs] = []
        self._asked = asked
        self._kinds: list[tuple[object, type]] = []
        self._recording: frozenset[str] = frozenset()

    def install(self, asked: RequestInputs) -> None:
        """Make the request and its parts record reads; parts added since the last call too."""
        self._asked = asked
        request = asked.request
        held = raw(request)
        recording = set()
        meta = held.get("META")
        for name, kind in _MAPPINGS.items():
            mapping = held.get(name)
            if name == "environ" and mapping is meta:
                held[name] = held["META"]
            elif type(mapping) is dict and name not in ("environ", "headers"):
                held[name] = Items(mapping)
            elif isinstance(mapping, Items) and mapping.watch is not self:  # from a copied request
                held[name] = Items(mapping.as_it_is())
            if type(mapping) is HttpHeaders:
                mapping.__class__ = Headers
            if isinstance(held.get(name), Items | Headers):
                held[name].kind, held[name].watch = kind, self
                recording.add(name)
        self._install_session(held.get("session"))
        for value in list(held.values()):
            if type(value) is SimpleLazyObject:
                ask_again(value)
        match = held.get("resolver_match")
        match = match if isinstance(match, ResolverMatch) else None
        self._recording = frozenset(recording)
        holders: tuple[tuple[str, Any], ...]
        holders = (("attribute", request), ("wrapper", asked.wrapper), ("match", match))
        for kind, holder in holders:
            if holder is not None and not issubclass(type(holder), NotedHolder):
                own: Any = type(holder)
                self._kinds.append((holder, own))
                object.__setattr__(holder, "__class__", holder_that_notes(own, kind))
                raw(holder)[WATCH] = self

    def _install_session(self, session: Any) -> None:
        if is_session(session):
            if not isinstance(session, NotedSession):
                own: Any = type(session)
                object.__setattr__(session, "__class__", session_that_notes(own))
            raw(session)[WATCH] = self

    def got_session(self) -> None:
        """Record the reads of a session that middleware has made just now."""
        if any(reads.expects_session for reads in self.active):
            session = raw(self._asked.request).get("session")
            self._install_session(session)
            if not is_session(session):  # its reads are not seen
                self.note("session data")

    def put_back(self) -> None:
        for holder, kind in self._kinds:
            if "pgnudge_notes" in vars(type(holder)):  # a view may have changed the class
                object.__setattr__(holder, "__class__", kind)
        self._kinds = []

    def attribute(self, kind: str, holder: object, name: str) -> None:
        """Record the read of an attribute, which may be missing."""
        if name == WATCH or not self.active:
            return
        held = raw(holder)
        if name not in held and hasattr(type(holder), name):
            if isinstance(getattr(type(holder), name), MemberDescriptorType):
                self.refuse(f"it read {name!r} of the request, which its class has in a slot")
            return  # a method or property; what it reads is recorded
        if kind == "wrapper" and name == "_request":
            return
        if kind == "attribute" and name in self._recording:
            return
        if kind == "attribute" and name in _BODY:
            self._note_body(held)
            return
        self.note(f"{kind} {name}")

    def _note_body(self, held: dict[str, Any]) -> None:
        """Record the read of the body.

        ``HttpRequest.read`` sets ``_read_started`` before it reads, and then ``body`` raises. So
        the flag is reset for the moment in which the body is recorded.
        """
        has_begun = held.get("_read_started")
        if not any(reads.began_with_body_read for reads in self.active):
            held["_read_started"] = False
        self.note("body of")
        held["_read_started"] = has_begun

    def note(self, name: str, value: Callable[[], str] | None = None) -> None:
        for reads in list(self.active):
            reads.follow(name)
        new = [
            reads for reads in list(self.active) if reads.lacks(name) and not reads.holds_back(name)
        ]
        if not new:
            return
        kind, _, attribute = name.partition(" ")
        lazy = self._asked.held(kind).get(attribute) if kind in HOLDERS else None
        lazy = lazy if is_pending(lazy) else None
        for reads in new:
            reads.take(name, None, lazy)  # before the value: reading that may record it again
        if lazy is not None and not is_known_when_asked(lazy) and value is None:
            self._note_when_asked(name, lazy)
            return
        try:
            found = self._asked.value(name) if value is None else value()
        except Exception as error:  # a value's text runs foreign code
            for reads in new:
                reads.why_unsure = f"it read {_said(name)}: {error}"
            return
        for reads in new:
            reads.take(name, found, lazy)

    def _note_when_asked(self, name: str, lazy: object) -> None:
        """Record the value of a lazy object at the moment when it is evaluated."""
        find = raw(lazy).get("_setupfunc")
        if find is None:
            return

        def found_and_noted() -> Any:
            found = find()
            for reads in self.active:
                if name in reads.values:
                    try:
                        reads.take(name, self._asked.text(found))
                    except UnsureError as error:
                        reads.why_unsure = f"it read {_said(name)}: {error}"
            return found

        raw(lazy)["_setupfunc"] = found_and_noted

    def session(self, session: SessionBase) -> None:
        """Record the read of the session's data, which are loaded."""
        self.note("session key")
        if any(reads.must_have_data(session) for reads in list(self.active)):
            self.note("session data")

    def wrote(self, name: str) -> None:
        for reads in list(self.active):
            reads.wrote(name)

    def refuse(self, why: str) -> None:
        for reads in self.active:
            reads.why_unsure = why

    @contextmanager
    def meta_as_it_is(self, holder: object) -> Iterator[None]:
        held = raw(holder)
        noted: dict[str, Any] = {
            name: held[name] for name in ("META", "environ") if name in self._recording
        }
        held.update({name: items.as_it_is() for name, items in noted.items()})
        try:
            yield
        finally:
            held.update(noted)
            self.install(self._asked)


def _watch_of(asked: RequestInputs) -> _Watch:
    held = raw(asked.request)
    watch = held.get(WATCH)
    if watch is None:
        watch = held[WATCH] = _Watch(asked)
    watch.install(asked)
    found: _Watch = watch
    return found


def _said(name: str) -> str:
    kind, _, name = name.partition(" ")
    where = "on the request" if kind in HOLDERS else f"of its {kind}"
    return f"{name!r} {where}"


_NOTHING: Final = object()
