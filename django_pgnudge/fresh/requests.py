"""What tells the responses to requests apart, and what makes one its reader's alone.

All of it is asked of the request and the response, after rendering: templates are lazy, and what a
page used of its reader is known when it is made, and no sooner.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from django.contrib.auth import SESSION_KEY
from django.contrib.messages import get_messages
from django.contrib.sessions.backends.base import SessionBase
from django.http.request import HttpHeaders
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.functional import LazyObject, empty
from django.utils.timezone import get_current_timezone, get_current_timezone_name
from django.utils.translation import get_language

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = [
    "django_request",
    "headers_sent",
    "is_late",
    "named",
    "vary_of",
    "vary_on_what_was_used",
    "watch",
    "why_not_stored",
    "why_personal",
]

_SEPARATOR: Final = re.compile(r"\s*,\s*")

_FORM: Final = (
    "accept",
    "hx-",
    "origin",
    "save-data",
    "sec-",
    "turbo-",
    "user-agent",
    "x-requested",
)
"""How headers begin that tell in what form a page is wanted, and not by whom."""

_ASKED_USER: Final = "_pgnudge_user"
"""The attribute of a request that says what its ``auser()`` has answered."""

_POLICIES: Final = ("Content-Security-Policy", "Content-Security-Policy-Report-Only")


def django_request(request: Any) -> HttpRequest:
    """The request itself where a framework wraps it, as Django REST framework does."""
    inner: HttpRequest = getattr(request, "_request", request)
    return inner


def named(request: HttpRequest) -> tuple[str | None, ...]:
    """What a page is of, before any header: the address, the language and the time zone.

    Not the absolute URI: ``/a/../b`` is written ``/b`` there, and a view is told which it was.
    """
    return (
        request.scheme,
        request.get_host(),
        request.path,
        request.path_info,
        request.META.get("QUERY_STRING", ""),
        str(getattr(request, "urlconf", None)),
        get_language(),
        getattr(request, "LANGUAGE_CODE", None),
        get_current_timezone_name(),
        repr(get_current_timezone()),
    )


def headers_sent(request: HttpRequest, names: Iterable[str]) -> tuple[tuple[str, str | None], ...]:
    """The named headers of a request; None for one that was not sent."""
    return tuple((name, request.headers.get(name)) for name in sorted(names))


def is_late(response: Any) -> bool:
    """Whether a response has still to be rendered."""
    return isinstance(response, HttpResponseBase) and not getattr(response, "is_rendered", True)


def vary_of(response: HttpResponseBase) -> frozenset[str] | None:
    """The headers that a response's ``Vary`` names, in lower case; None for ``*``."""
    names = _SEPARATOR.split(response.headers.get("Vary", "").strip().lower())
    return None if "*" in names else frozenset(filter(None, names))


def watch(request: HttpRequest) -> None:
    """Notice from here on whether cookies, the key of the session or the user are looked at.

    A cookie may be read from ``COOKIES``, ``META`` and ``headers``. A user may be told by a
    coroutine of some middleware's, which leaves no trace on the request.
    """
    if not isinstance(request.META, _Meta):
        request.COOKIES = _Cookies(request.COOKIES)
        headers = request.headers
        if type(headers) is HttpHeaders:
            headers.__class__ = _Headers
        request.META = _Meta(request.META)
        if (ask := vars(request).get("auser")) is not None:
            request.auser = partial(_noted_user, request, ask)
    session = vars(request).get("session")
    kind = type(session)
    if issubclass(kind, SessionBase) and not issubclass(kind, _NoticedKey):
        session.__class__ = _noticing_key(kind)


def vary_on_what_was_used(request: HttpRequest, response: HttpResponseBase) -> None:
    """Name in ``Vary`` what the response depends on, which middleware would only say later."""
    session = getattr(request, "session", None)
    cookies = any(
        getattr(each, "were_looked_at", False)
        for each in (request.COOKIES, request.META, request.headers)
    )
    if cookies or getattr(session, "accessed", False):
        patch_vary_headers(response, ("Cookie",))
    if request.headers.get("Authorization") and "public" not in _cache_control(response):
        patch_vary_headers(response, ("Authorization",))


def why_personal(request: HttpRequest, response: HttpResponseBase | None = None) -> str:
    """Why what was rendered for a request, by now, must be shown to nobody else; empty if it may.

    Without a response it tells what the request says. What was only read from the session or a
    cookie is no reason: such a page varies on the cookie, see `vary_on_what_was_used`.
    """
    # The middleware sets it to False once it has sent the cookie.
    if "CSRF_COOKIE_NEEDS_UPDATE" in request.META:
        return "it used the CSRF token"
    messages: Any = get_messages(request)
    if getattr(messages, "added_new", False):
        return "it added messages"
    if getattr(messages, "used", False) and len(messages):
        return "it showed messages"
    # Of Django 6 (`django.middleware.csp`), false until used, and of django-csp.
    if getattr(request, "_csp_nonce", None):
        return "it used a nonce of its content security policy"
    if getattr(getattr(request, "session", None), "modified", False):
        return "it changed the session"
    return "" if response is None else _why_response_is_personal(request, response)


def why_not_stored(response: HttpResponseBase) -> str:
    """Why its ``Cache-Control`` forbids a response to be kept here; empty if it does not."""
    control = _cache_control(response)
    forbids = any(word in control for word in ("private", "no-cache", "no-store"))
    return f"its Cache-Control is {control!r}" if forbids else ""


def _why_response_is_personal(request: HttpRequest, response: HttpResponseBase) -> str:
    if response.cookies or response.has_header("Set-Cookie"):
        return "it set a cookie"
    if any("'nonce-" in response.headers.get(policy, "") for policy in _POLICIES):
        return "it used a nonce of its content security policy"
    vary = vary_of(response)
    if vary is None:
        return "it varies on everything"
    if getattr(request.META, "told_user", False):
        return "it read from META whom the web server has let in"
    if not all(_tells_user(request, vary, user) for user in _users(request)):
        return (
            "it was made for a user whom neither the session nor a header named in Vary tells"
            " apart: name the header that does, by vary_on_headers()"
        )
    return ""


def _users(request: HttpRequest) -> list[Any]:
    """The users, if anybody has asked who it is: of ``request.user``, and of any ``auser()``.

    One who is nobody counts too where that was found out for this page.
    """
    held = vars(request)
    user = held.get("user")
    is_lazy = isinstance(user, LazyObject)
    if is_lazy and vars(user).get("_wrapped") is empty:
        user = None
    asked = [held.get("_acached_user"), held.get(_ASKED_USER), user if is_lazy else None]
    if getattr(user, "is_authenticated", False):
        asked.append(user)
    return [each for each in asked if each is not None]


async def _noted_user(request: HttpRequest, ask: Callable[[], Awaitable[Any]]) -> Any:
    user = await ask()
    setattr(request, _ASKED_USER, user)
    return user


def _tells_user(request: HttpRequest, vary: frozenset[str], user: Any) -> bool:
    """Whether the headers named tell this user from others.

    ``Cookie`` does if the session in it is the user's; of a session that was looked at and is not,
    it says nothing: the user may be known by a header, and ``Cookie`` be named for the session.
    """
    session: Any = getattr(request, "session", None)
    if getattr(session, "accessed", False):
        pk = getattr(user, "pk", None)
        if "cookie" in vary and str(session.get(SESSION_KEY)) == str(pk):
            return True
        vary -= {"cookie"}
    is_one = getattr(user, "is_authenticated", False)
    # That nobody sent a header is told by the header too.
    return any(
        request.headers.get(name) or not is_one for name in vary if not name.startswith(_FORM)
    )


def _cache_control(response: HttpResponseBase) -> str:
    return str(response.headers.get("Cache-Control", "")).lower()


class _NoticedKey:
    """A session of which to read the key is to read the session, as for Django it is not."""

    @property
    def session_key(self) -> Any:
        self.accessed = True
        return super().session_key  # type: ignore[misc]


@cache
def _noticing_key(kind: type[SessionBase]) -> type[SessionBase]:
    # Sessions are signed by the name of their class.
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (_NoticedKey, kind), named)


class _Cookies(dict[str, str]):
    """A request's cookies, and whether anybody looked at them."""

    were_looked_at = False

    def note(self, name: object) -> None:
        self.were_looked_at = True


_OF_SERVER: Final = frozenset({"REMOTE_USER", "AUTH_USER", "LOGON_USER"})
"""What web servers, and the modules of theirs that log in, call whom they have let in."""


class _Meta(dict[str, Any]):
    """A request's META, and whether anybody looked at the cookies in it, or for a user."""

    were_looked_at = False
    told_user = False

    def note(self, name: object) -> None:
        if name == "HTTP_COOKIE":
            self.were_looked_at = True
        elif name in _OF_SERVER and dict.get(self, name):
            self.told_user = True


class _Headers(HttpHeaders):
    """A request's headers, and whether anybody looked at the cookies in them."""

    were_looked_at = False

    def __getitem__(self, key: str) -> str:
        self.were_looked_at |= key.lower() == "cookie"
        value: str = super().__getitem__(key)
        return value

    def __iter__(self) -> Iterator[str]:
        self.were_looked_at = True
        return super().__iter__()

    def __repr__(self) -> str:
        self.were_looked_at = True
        return super().__repr__()


_OF_ONE: Final = ("__contains__", "__getitem__", "get", "pop", "setdefault")

_OF_ALL: Final = (
    "__eq__", "__iter__", "__len__", "__ne__", "__or__", "__repr__", "__reversed__", "__ror__",
    "copy", "items", "keys", "popitem", "values",
)  # fmt: skip


def _noted(name: str) -> Callable[..., Any]:
    read = getattr(dict, name)

    def look(self: _Cookies | _Meta, *args: Any) -> Any:
        for each in args[:1] if name in _OF_ONE else ("HTTP_COOKIE", *_OF_SERVER):
            self.note(each)
        return read(self, *args)

    return look


for _name in (*_OF_ONE, *_OF_ALL):
    _look = _noted(_name)
    setattr(_Cookies, _name, _look)
    setattr(_Meta, _name, _look)
