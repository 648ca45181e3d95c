"""What is read of a request while a page or a fragment is made of it: all that tells it apart.

Nobody is asked which header, cookie or attribute a page depends on, and none is known to be
harmless: while the page is made, the request notes whatever is read of it, and the page is kept
under the values of that. What the address says, every page is kept under. What middleware left on
the request before, such as the user, is an input like a header; what the view leaves there was made
of inputs.

An input is a text, ``"<kind> <name>"``:

=================== ================================================================
``header X-Who``    a header, by whatever case it was asked for
``meta X``          an item of ``META``, and so of a WSGI request's ``environ``
``scope X``         an item of an ASGI request's ``scope``
``cookie X``        a cookie
``all X``           of the mappings above, which ``X`` says
``session key``     which session it is
``session data``    what the session holds, where that is not a row that was read for the page
``body of``         the request
``store X``         what a session store of its own kind says of the session
``match X``         what the URL resolver found, of ``resolver_match``
``attribute X``     whatever else is on the request
``wrapper X``       the same of a framework's request that wraps Django's
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
    """The attributes of an object whose reading is noted, without a note."""
    held: dict[str, Any] = object.__getattribute__(holder, "__dict__")
    return held


def is_pending(value: object) -> bool:
    """Whether it is lazy, and nobody has asked yet what it stands for."""
    return issubclass(type(value), LazyObject) and raw(value).get("_wrapped") is empty


def is_known_when_asked(value: object) -> bool:
    """Whether all that this lazy object will ask is the request: what Django itself has made."""
    setup = raw(value).get("_setupfunc")
    return str(getattr(setup, "__module__", "")).startswith("django.")


def is_session(value: object) -> bool:
    """Whether it is one of Django's kind, and no lazy object that stands for one."""
    return issubclass(type(value), SessionBase)


def own_class(value: object) -> type:
    """Its class, whether or not it notes by now what is read of it."""
    kind = type(value)
    return kind.__mro__[2] if "pgnudge_notes" in vars(kind) else kind


def loads_its_row(session: SessionBase) -> bool:
    """Whether to load this session is to read its row, as any other is read, and no more."""
    return getattr(type(session), "load", None) is db.SessionStore.load


class RequestInputs:
    """A request as a view got it: Django's, and a framework's if that wraps it."""

    def __init__(self, given: Any) -> None:
        is_own = isinstance(given, HttpRequest)
        self.request: HttpRequest = given if is_own else getattr(given, "_request", given)
        self.wrapper: Any = None if self.request is given else given

    @property
    def known(self) -> tuple[object, ...]:
        """What notes its own reading, and is the same for all in what else is named."""
        session = raw(self.request).get("session")
        return tuple(
            each
            for each in (self.request, self.wrapper, session if is_session(session) else None)
            if each is not None
        )

    def held(self, kind: str) -> dict[str, Any]:
        """The attributes of the request, of its wrapper, or of what its address has led to."""
        holder: object = self.request if kind == "attribute" else self.wrapper
        if kind == "store":
            session = raw(self.request).get("session")
            holder = session if is_session(session) else None
        if kind == "match":
            found = raw(self.request).get("resolver_match")
            holder = found if isinstance(found, ResolverMatch) else None
        return {} if holder is None else raw(holder)

    def must_wait(self, inputs: Iterable[str]) -> bool:
        """Whether to have their values may mean to ask a database, or whatever is lazy."""
        for each in inputs:
            kind, _, name = each.partition(" ")
            value = self.held(kind).get(name) if kind in HOLDERS else None
            is_unknown = is_pending(value) and not is_known_when_asked(value)
            if is_unknown or each in ("body of", "session data"):
                return True
        return False

    def value(self, given: str) -> str:
        """What an input is now.

        Raises UnsureError where it cannot be told from others, and what a lazy attribute raises.
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
        if kind == "all":
            return self.text(dict(_items(self._mapping(name))))
        return self._item(kind, name)

    def _item(self, kind: str, name: str) -> str:
        mapping: Any = self._mapping(kind)
        if isinstance(mapping, HttpHeaders):
            # To read these, or a dict below, by their own methods is to note it.
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
            if not is_made:  # so that the view has them made of what it may write before
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
            # As it came, unless somebody has added some, to read it is to note what it reads.
            held = raw(value)
            return self.text([type(value), held.get("_queued_messages"), held.get("_level")])
        return self.text(value)

    def text(self, value: object) -> str:
        """What tells a value from others."""
        value = unwrapped(value)
        return f"={value}" if type(value) is str else content_digest(value, self.known, strict=True)


def _items(mapping: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    if isinstance(mapping, HttpHeaders):
        return mapping._store.values()  # noqa: SLF001 - no note
    return dict.items(mapping) if isinstance(mapping, dict) else mapping.items()
