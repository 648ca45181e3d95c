"""What middleware leaves on a request, how views read it, and a view that shows what it finds."""

from __future__ import annotations

import copy
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import AnonymousUser, User
from django.contrib.messages import set_level
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.sessions.backends.cache import SessionStore as CachedSession
from django.contrib.sessions.backends.db import SessionStore
from django.core.handlers.wsgi import WSGIRequest
from django.http import HttpResponse, QueryDict
from django.test import RequestFactory
from django.urls import ResolverMatch
from django.utils.functional import SimpleLazyObject

from django_pgnudge import nudged_condition, nudged_page
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Callable

FACTORY = RequestFactory()
USERS: dict[str, Any] = {
    "ann": User(pk=1, username="ann"), "bob": User(pk=2, username="bob"), "": AnonymousUser(),
}  # fmt: skip
TURNS = ("ann", "bob", "", "ann", "bob", "")

page = nudged_page(60, Product)
tagged = nudged_condition(Product, vary_on=())


def text(response: Any) -> str:
    return str(response.content.decode())


def a_request(**headers: str) -> Any:
    return FACTORY.get("/a", headers=headers)


class Shown:
    """A nudged view that shows what ``look`` finds, and how often it ran for whom."""

    def __init__(self, look: Callable[[Any], Any]) -> None:
        self.runs: list[str] = []

        def view(request: Any) -> HttpResponse:
            shown = f"{look(request)}"
            self.runs.append(shown)
            return HttpResponse(shown)

        self.page = page(view)
        self.tagged = tagged(view)


def leave(request: Any, who: str) -> None:
    request.account = who


def leave_lazy(request: Any, find: Callable[[], str], *more: object) -> Any:
    request.account = SimpleLazyObject(find)
    return request.account


def same(request: Any) -> Any:
    return request


class Held:
    def __init__(self, request: Any, who: str) -> None:
        self._request, self.who = request, who


current: ContextVar[str] = ContextVar("current", default="")


FREE, PAID = object(), object()


class Query(QueryDict):
    account = ""


class TokenSession(CachedSession):
    pass


def with_session(request: Any, kind: type[CachedSession] = CachedSession) -> Any:
    request.session = kind(None)
    return request.session


def leave_query(request: Any, who: str) -> None:
    request.GET = Query("")
    request.GET.account = who


def leave_level(request: Any, who: str) -> None:
    request._messages = CookieStorage(request)
    set_level(request, {"ann": 10, "bob": 25, "": 30}[who])


def was_deleted(delete: Callable[[], Any]) -> bool:
    try:
        delete()
    except (AttributeError, KeyError):
        return False
    return True


class Match:
    def __init__(self, who: str) -> None:
        self.args, self.kwargs = (), {"who": who}


class Mobile(WSGIRequest):
    pass


LEFT: dict[str, tuple[Callable[[Any, str], Any], Callable[[Any], Any]]] = {
    "a text": (leave, lambda request: request.account),
    "a text, by getattr": (leave, lambda request: getattr(request, "account", "")),
    "an object": (
        lambda request, who: setattr(request, "held", Held(None, who)),
        lambda request: request.held.who,
    ),
    "an object that holds the request": (
        lambda request, who: setattr(request, "held", Held(request, who)),
        lambda request: request.held.who,
    ),
    "a function": (
        lambda request, who: setattr(request, "account", lambda: who),
        lambda request: request.account(),
    ),
    "what is lazy": (
        lambda request, who: setattr(request, "account", SimpleLazyObject(lambda: who)),
        lambda request: request.account,
    ),
    "what is lazy, of the context": (
        lambda request, who: leave_lazy(request, current.get, current.set(who)),
        lambda request: request.account,
    ),
    "what is lazy, and was asked": (
        lambda request, who: str(leave_lazy(request, lambda: who)),
        lambda request: request.account,
    ),
    "a user": (
        lambda request, who: setattr(request, "user", USERS[who]),
        lambda request: request.user.username,
    ),
    "a lazy user": (
        lambda request, who: setattr(request, "user", SimpleLazyObject(lambda: USERS[who])),
        lambda request: request.user.username,
    ),
    "another query": (
        lambda request, who: setattr(request, "GET", QueryDict(f"who={who}")),
        lambda request: request.GET["who"],
    ),
    "another query, like a form": (
        lambda request, who: setattr(request, "POST", QueryDict(f"who={who}")),
        lambda request: request.POST["who"],
    ),
    "other cookies": (
        lambda request, who: setattr(request, "COOKIES", {"who": who}),
        lambda request: request.COOKIES["who"],
    ),
    "other cookies, of another kind": (
        lambda request, who: setattr(request, "COOKIES", QueryDict(f"who={who}")),
        lambda request: request.COOKIES["who"],
    ),
    "an item of META": (
        lambda request, who: request.META.update(CSRF_COOKIE=who),
        lambda request: request.META["CSRF_COOKIE"],
    ),
    "an item of META, read in the environment": (
        lambda request, who: request.META.update(REMOTE_USER=who),
        lambda request: request.environ["REMOTE_USER"],
    ),
    "another META": (
        lambda request, who: setattr(request, "META", {**request.META, "WHO": who}),
        lambda request: request.META["WHO"],
    ),
    "headers": (
        lambda request, who: setattr(request, "headers", {"Who": who}),
        lambda request: request.headers["Who"],
    ),
    "a session's key": (
        lambda request, who: setattr(
            request, "session", SessionStore(f"key of {who}" if who else None)
        ),
        lambda request: (request.session.session_key or "").removeprefix("key of "),
    ),
    "an attribute of the session": (
        lambda request, who: setattr(with_session(request), "account", who),
        lambda request: request.session.account,
    ),
    "an attribute of the query": (leave_query, lambda request: request.GET.account),
    "the level of messages": (
        leave_level,
        lambda request: {10: "ann", 25: "bob", 30: ""}[request._messages.level],
    ),
    "a lazy user, copied": (
        lambda request, who: setattr(request, "user", SimpleLazyObject(lambda: USERS[who])),
        lambda request: copy.copy(request.user).username,
    ),
    "a lazy user, copied with others": (
        lambda request, who: setattr(request, "user", SimpleLazyObject(lambda: USERS[who])),
        lambda request: copy.deepcopy([request.user])[0].username,
    ),
    "arguments in the match": (
        lambda request, who: setattr(request, "resolver_match", Match(who)),
        lambda request: request.resolver_match.kwargs["who"],
    ),
}
"""How it is left there for whom, and how a view reads who it is."""

WHETHER: dict[str, tuple[Callable[[Any, bool], Any], Callable[[Any], Any]]] = {
    "there is a session": (
        lambda request, has: has and with_session(request),
        lambda request: hasattr(request, "session"),
    ),
    "a session is of a kind": (
        lambda request, has: with_session(request, TokenSession if has else CachedSession),
        lambda request: isinstance(request.session, TokenSession),
    ),
    "there is an attribute to delete": (
        lambda request, has: vars(request).update({"account": "ann"} if has else {}),
        lambda request: was_deleted(lambda: delattr(request, "account")),
    ),
    "there is a cookie to delete": (
        lambda request, has: has and request.COOKIES.update(who="ann"),
        lambda request: was_deleted(lambda: request.COOKIES.pop("who")),
    ),
    "there is any cookie to take": (
        lambda request, has: has and request.COOKIES.update(who="ann"),
        lambda request: was_deleted(request.COOKIES.popitem),
    ),
    "it is one constant and not the other": (
        lambda request, has: setattr(request, "plan", PAID if has else FREE),
        lambda request: request.plan is PAID,
    ),
    "there is a match": (
        lambda request, has: setattr(
            request, "resolver_match", ResolverMatch(same, (), {}) if has else None
        ),
        lambda request: request.resolver_match is not None,
    ),
    "the request is of a class": (
        lambda request, has: setattr(request, "__class__", Mobile if has else WSGIRequest),
        lambda request: isinstance(request, Mobile),
    ),
}
"""The same, of which a view says only whether there is something."""
