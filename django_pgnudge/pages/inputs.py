"""The inputs of a page or a fragment: everything that it reads from the request.

Nobody declares which header, cookie or attribute a page depends on. While the page is made, the
request records everything that is read from it, and the page is kept under the values of these
inputs. Every page is also kept under its address. What middleware has put on the request, such as
the user, is an input like a header. What the view itself puts there was made from inputs and is
not one.

An input is a text, ``"<kind> <name>"``:

=================== ================================================================
``header X-Who``    a header, in any case
``meta X``          an item of ``META``, and so of a WSGI request's ``environ``
``scope X``         an item of an ASGI request's ``scope``
``cookie X``        a cookie
``all X``           all items of one of the mappings above; ``X`` is its kind
``session key``     the key of the session
``session data``    the data of the session, unless its row was read for the page
``body of``         the body of the request
``language of``     the language that Django finds for the request, of those of the site
``store X``         an attribute that a custom session store adds to the session
``match X``         an attribute of ``resolver_match``, the URL resolver's result
``attribute X``     any other attribute of the request
``wrapper X``       an attribute of a framework's request that wraps Django's
=================== ================================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest
from django.http.request import HttpHeaders
from django.urls import ResolverMatch
from django.utils.functional import LazyObject, empty
from django.utils.translation import get_language_from_request

from django_pgnudge.reader.arguments import unwrapped
from django_pgnudge.reader.content_text import content_digest
from django_pgnudge.reader.function_names import qualified_name

if TYPE_CHECKING:
    from collections.abc import Mapping

_ABSENT: Final = "absent"

HOLDERS: Final = ("attribute", "wrapper", "match", "store")
"""The kinds of input that are attributes."""

_NOTHING: Final = object()


def raw(holder: object) -> dict[str, Any]:
    """The attributes of an object that records reads, without recording this read."""
    held: dict[str, Any] = object.__getattribute__(holder, "__dict__")
    return held


def is_pending(value: object) -> bool:
    """Whether it is a lazy object that was not evaluated yet."""
    return issubclass(type(value), LazyObject) and raw(value).get("_wrapped") is empty


def is_known_when_asked(value: object) -> bool:
    """Whether this lazy object is Django's own, which reads only the request."""
    setup = raw(value).get("_setupfunc")
    return str(getattr(setup, "__module__", "")).startswith("django.")


def is_session(value: object) -> bool:
    """Whether it is a session of Django's base class, and not a lazy object for one."""
    return issubclass(type(value), SessionBase)


def own_class(value: object) -> type:
    """Its original class, also while it has a class that records reads."""
    kind = type(value)
    return kind.__mro__[2] if "pgnudge_notes" in vars(kind) else kind


def loads_its_row(session: SessionBase) -> bool:
    """Whether loading this session is only an ordinary read of its row."""
    return getattr(type(session), "load", None) is db.SessionStore.load


class RequestInputs:
    """The request that a view got: Django's, and a framework's request that wraps it, if any."""

    def __init__(self, given: Any) -> None:
        is_own = isinstance(given, HttpRequest)
        self.request: HttpRequest = given if is_own else getattr(given, "_request", given)
        self.wrapper: Any = None if self.request is given else given

    @property
    def known(self) -> tuple[object, ...]:
        """Objects that record their own reads, so that a name must not include their contents."""
        session = raw(self.request).get("session")
        return tuple(
            each
            for each in (self.request, self.wrapper, session if is_session(session) else None)
            if each is not None
        )

    def held(self, kind: str) -> dict[str, Any]:
        """The attributes of the object that a kind of input belongs to; empty if there is none."""
        holder: object = self.request if kind == "attribute" else self.wrapper
        if kind == "store":
            session = raw(self.request).get("session")
            holder = session if is_session(session) else None
        if kind == "match":
            found = raw(self.request).get("resolver_match")
            holder = found if isinstance(found, ResolverMatch) else None
        return {} if holder is None else raw(holder)

    def must_wait(self, inputs: Iterable[str]) -> bool:
        """Whether reading these values may block: a query, or another lazy object."""
        for each in inputs:
            kind, _, name = each.partition(" ")
            value = self.held(kind).get(name) if kind in HOLDERS else None
            is_unknown = is_pending(value) and not is_known_when_asked(value)
            if is_unknown or each in ("body of", "session data"):
                return True
        return False

    def value(self, given: str) -> str:
        """The value of an input now, as a text.

        Raises UnsureError if it has no unique text, and any exception of a lazy attribute.
        """
        kind, _, name = given.partition(" ")
        if kind == "match" and name == "func":
            name = "_func_path"
        if kind in HOLDERS:
            return self._attribute(self.held(kind), name)
        if kind == "body":
            return self.text(self.request.body)
        if kind == "session":
            return self._of_session(name)
        if kind == "language":
            found = (get_language_from_request(self.request, check_path=by) for by in (False, True))
            return self.text(tuple(found))
        if kind == "all":
            return self.text(dict(_items(self._mapping(name))))
        return self._item(kind, name)

    def _item(self, kind: str, name: str) -> str:
        mapping: Any = self._mapping(kind)
        if isinstance(mapping, HttpHeaders):
            # Their own methods, and those of a dict below, would record the read.
            _, value = mapping._store.get(name, ("", _NOTHING))  # noqa: SLF001
        else:
            key = HttpHeaders.to_wsgi_name(name) if kind == "header" else name
            get = dict.get if isinstance(mapping, dict) else type(mapping).get
            value = get(mapping, key, _NOTHING)
        return _ABSENT if value is _NOTHING else self.text(value)

    def _mapping(self, kind: str) -> Mapping[str, Any]:
        held = raw(self.request)
        if kind == "header" and isinstance(headers := held.get("headers"), HttpHeaders):
            return headers
        if kind == "scope":
            scope: Mapping[str, Any] = held.get("scope", {})
            return scope
        if kind == "cookie":
            is_made = "COOKIES" in held
            cookies: Mapping[str, Any] = self.request.COOKIES
            if not is_made:  # the view may change META before it reads COOKIES
                held.pop("COOKIES", None)
            return cookies
        return self.request.META

    def _of_session(self, name: str) -> str:
        session: Any = raw(self.request).get("session")
        if not is_session(session):
            return _ABSENT
        if name == "key":
            return self.text(SessionBase._get_session_key(session))  # noqa: SLF001 - no note
        return self.text(getattr(session, "_session"))  # noqa: B009 - of no stub

    def _attribute(self, held: dict[str, Any], name: str) -> str:
        if name not in held:
            return _ABSENT
        value = held[name]
        if name == "session" and is_session(value):
            return f"a {qualified_name(own_class(value))}"
        if name == "resolver_match" and isinstance(value, ResolverMatch):
            return "there"
        if is_pending(value) and is_known_when_asked(value):
            return f"lazy {self.text(raw(value)['_setupfunc'])}"
        if name == "_messages" and not hasattr(value, "_loaded_data"):
            # No messages were loaded yet. Reading from their storage would record reads of its own,
            # so only its type, its queue and its level count.
            held = raw(value)
            return self.text([type(value), held.get("_queued_messages"), held.get("_level")])
        return self.text(value)

    def text(self, value: object) -> str:
        """The unique text of a value. Raises UnsureError if it has none."""
        value = unwrapped(value)
        return f"={value}" if type(value) is str else content_digest(value, self.known, strict=True)


def _items(mapping: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    if isinstance(mapping, HttpHeaders):
        return mapping._store.values()  # noqa: SLF001 - no note
    return dict.items(mapping) if isinstance(mapping, dict) else mapping.items()
