"""Note what is read of a request: the request is given a class that notes it, as are its parts.

A request stays the object that it is, with the attributes that it has. Reads of several pages and
fragments that are being made at once, one inside the other, are noted for each.
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
"""So many inputs may tell the pages of one address apart, or the renderings of one fragment. Their
names are learned, and what reads a cookie of another name for each visitor has no end of them."""

_NAMED: Final = frozenset(
    {"GET", "LANGUAGE_CODE", "_encoding", "method", "path", "path_info", "urlconf"}
)
"""What the address says, see `requests.named`."""

_TOKEN: Final = "CSRF_COOKIE_NEEDS_UPDATE"  # noqa: S105 - an item of META
"""Django's ``get_token`` writes it each time, for the middleware."""

_BODY: Final = frozenset({"_body", "_read_started", "_stream"})

_MAPPINGS: Final = {
    "COOKIES": "cookie", "META": "meta", "environ": "meta", "headers": "header", "scope": "scope",
}  # fmt: skip
"""The attributes that hold items, and the kind of input that an item of each is."""


class RecordedInputs:
    """What was read of a request from `start` to `stop`.

    ``values`` has each input and its value when it was first read; None for one whose value is only
    known when it is asked for beforehand. ``why_unsure`` says of which it cannot be told. What the
    address says is no input of what is named by the address already.
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
        """Note from here on, past the end of the block unless that fails."""
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
        """What is lazy and still nobody has asked for was not read."""
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
        """Why what was made must be shown to nobody else; empty if it may."""
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
        """Whether any cookie was read, in whatever way."""
        return any(
            each.startswith(("cookie ", "session "))
            or each in ("header cookie", "meta HTTP_COOKIE", "all cookie", "all header", "all meta")
            for each in self.values
        )

    def with_headers(self, names: Iterable[str]) -> dict[str, str | None]:
        """The values, and those of headers that were named and perhaps not read."""
        named = {f"header {name}" for name in names}
        more = {each: self._asked.value(each) for each in named - self.values.keys()}
        return {**self.values, **more}

    def lacks(self, name: str) -> bool:
        """Whether an input is new here, and not something that was written since the start."""
        if name in self.values or name in self._written:
            return False
        kind, _, attribute = name.partition(" ")
        before = self._before.get(kind)
        if before is None:
            return True
        if kind == "attribute" and attribute in self._given:
            return False
        if kind == "wrapper" and self._asked.wrapper is None:
            return False  # made of the request, since the start
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

    def must_have_data(self, session: SessionBase) -> bool:
        """Whether reading this session's row was not seen here, or it is no row."""
        return self._had_loaded or not loads_its_row(session)


def note_values(asked: RequestInputs, inputs: Iterable[str]) -> dict[str, str]:
    """The values that these inputs have now, noted for whatever else is being made.

    Raises UnsureError, also where a lazy attribute fails: whoever asked for it may not want it.
    """
    watch = raw(asked.request).get(WATCH)
    found = {}
    for each in sorted(inputs):
        try:
            found[each] = value = asked.value(each)
        except UnsureError:
            raise
        except Exception as error:  # it runs its own code
            why = f"{_said(each)} raised {type(error).__name__} when asked for"
            raise UnsureError(why) from error
        if watch is not None:
            watch.note(each, lambda value=value: value)
    return found


def note_read(asked: RequestInputs, name: str) -> None:
    """An input was read in another way than by the request."""
    watch = raw(asked.request).get(WATCH)
    if watch is not None:
        watch.note(name)


def note_token(asked: RequestInputs) -> None:
    """A CSRF token was read that had been made before."""
    watch = raw(asked.request).get(WATCH)
    if watch is not None:
        watch.wrote(f"meta {_TOKEN}")


def ask_again(lazy: object, asking: Callable[[], object] = lambda: None) -> None:
    """Have a lazy object that was asked before say when it is asked for what it stands for."""
    held = raw(lazy)
    found = held["_wrapped"]
    if found is empty:
        return

    def say() -> Any:
        asking()
        return found

    held["_setupfunc"], held["_wrapped"] = say, empty


class _Watch:
    """Who notes what is read of one request."""

    def __init__(self, asked: RequestInputs) -> None:
        self.active: list[RecordedInputs] = []
        self._asked = asked
        self._kinds: list[tuple[object, type]] = []
        self._noticed: frozenset[str] = frozenset()

    def install(self, asked: RequestInputs) -> None:
        """Have all that is on the request note its reading, what came since the last time too."""
        self._asked = asked
        request = asked.request
        held = raw(request)
        noticed = set()
        meta = held.get("META")
        for name, kind in _MAPPINGS.items():
            mapping = held.get(name)
            if name == "environ" and mapping is meta:
                held[name] = held["META"]
            elif type(mapping) is dict and name not in ("environ", "headers"):
                held[name] = Items(mapping)
            elif isinstance(mapping, Items) and mapping.watch is not self:  # of a copy
                held[name] = Items(mapping.as_it_is())
            if type(mapping) is HttpHeaders:
                mapping.__class__ = Headers
            if isinstance(held.get(name), Items | Headers):
                held[name].kind, held[name].watch = kind, self
                noticed.add(name)
        session = held.get("session")
        if is_session(session):
            if not isinstance(session, NotedSession):
                own: Any = type(session)
                object.__setattr__(session, "__class__", session_that_notes(own))
            raw(session)[WATCH] = self
        for value in list(held.values()):
            if type(value) is SimpleLazyObject:
                ask_again(value)
        match = held.get("resolver_match")
        match = match if isinstance(match, ResolverMatch) else None
        self._noticed = frozenset(noticed)
        holders: tuple[tuple[str, Any], ...]
        holders = (("attribute", request), ("wrapper", asked.wrapper), ("match", match))
        for kind, holder in holders:
            if holder is not None and not issubclass(type(holder), NotedHolder):
                own = type(holder)
                self._kinds.append((holder, own))
                object.__setattr__(holder, "__class__", holder_that_notes(own, kind))
                raw(holder)[WATCH] = self

    def put_back(self) -> None:
        for holder, kind in self._kinds:
            if "pgnudge_notes" in vars(type(holder)):  # a view may have given it another
                object.__setattr__(holder, "__class__", kind)
        self._kinds = []

    def attribute(self, kind: str, holder: object, name: str) -> None:
        """An attribute is read, there or not."""
        if name == WATCH or not self.active:
            return
        held = raw(holder)
        if name not in held and hasattr(type(holder), name):
            if isinstance(getattr(type(holder), name), MemberDescriptorType):
                self.refuse(f"it read {name!r} of the request, which its class has in a slot")
            return  # code, whose own reading is noted
        if kind == "wrapper" and name == "_request":
            return
        if kind == "attribute" and name in self._noticed:
            return
        if kind == "attribute" and name in _BODY:
            self._note_body(held)
            return
        self.note(f"{kind} {name}")

    def _note_body(self, held: dict[str, Any]) -> None:
        """`HttpRequest.read` says that it has begun before it does."""
        has_begun = held.get("_read_started")
        if not any(reads.began_with_body_read for reads in self.active):
            held["_read_started"] = False
        self.note("body of")
        held["_read_started"] = has_begun

    def note(self, name: str, value: Callable[[], str] | None = None) -> None:
        new = [reads for reads in list(self.active) if reads.lacks(name)]
        if not new:
            return
        kind, _, attribute = name.partition(" ")
        lazy = self._asked.held(kind).get(attribute) if kind in HOLDERS else None
        lazy = lazy if is_pending(lazy) else None
        for reads in new:
            reads.take(name, None, lazy)  # at once: its value may be had by reading it
        if lazy is not None and not is_known_when_asked(lazy) and value is None:
            self._note_when_asked(name, lazy)
            return
        try:
            found = self._asked.value(name) if value is None else value()
        except Exception as error:  # naming it runs its own code
            for reads in new:
                reads.why_unsure = f"it read {_said(name)}: {error}"
            return
        for reads in new:
            reads.take(name, found, lazy)

    def _note_when_asked(self, name: str, lazy: object) -> None:
        """Note what it stands for in the moment in which that is found."""
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
        """The session's data are read, and loaded by now."""
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
            name: held[name] for name in ("META", "environ") if name in self._noticed
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
