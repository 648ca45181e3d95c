"""Whether a fragment shows what is one reader's: the user, the session, a token, a message.

While it is rendered, watchers stand in for these, in the template's context and on the request. One
that is used at all has been shown to the template, whichever tag asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django.utils.functional import SimpleLazyObject

if TYPE_CHECKING:
    from django.template.base import FilterExpression
    from django.template.context import Context

__all__ = ["named_in", "used_in"]

_IN_CONTEXT: Final = {
    "csrf_token": "csrf_token", "messages": "messages", "csp_nonce": "csp_nonce",
    "CSP_NONCE": "csp_nonce", "user": "user", "perms": "perms",
}  # fmt: skip
"""What Django's context processors, and django-csp's, name them, and what we do."""

_ON_REQUEST: Final = {
    "user": "user", "_user": "user", "session": "session", "COOKIES": "cookies",
    "_messages": "messages", "csp_nonce": "csp_nonce", "_csp_nonce": "csp_nonce",
}  # fmt: skip
"""``_user`` is Django REST framework's, whose request wraps Django's."""

_MAY_BE_NAMED: Final = {
    "user": {"user", "perms"}, "perms": {"perms"}, "session": {"session"}, "COOKIES": {"cookies"},
}  # fmt: skip
"""What tells renderings apart, and what it then covers; a token is used once and tells nothing."""

_CSRF: Final = "CSRF_COOKIE_NEEDS_UPDATE"
"""Django's ``get_token`` sets it each time, for the middleware."""


def named_in(expressions: Iterable[FilterExpression]) -> frozenset[str]:
    """What is one reader's and named in these expressions, such as ``request.user.pk``."""
    named: set[str] = set()
    for expression in expressions:
        arguments = [value for _, each in expression.filters for by_name, value in each if by_name]
        for variable in (expression.var, *arguments):
            lookups: tuple[str, ...] = getattr(variable, "lookups", None) or ("",)
            first = lookups[1] if lookups[0] == "request" and len(lookups) > 1 else lookups[0]
            named |= _MAY_BE_NAMED.get(first, set())
    return frozenset(named)


@contextmanager
def used_in(context: Context, named: frozenset[str]) -> Iterator[set[str]]:
    """Fills the set with what the block uses and is not ``named``."""
    used: set[str] = set()
    stand_ins: dict[int, SimpleLazyObject[Any]] = {}

    def watcher(name: str, value: object) -> SimpleLazyObject[Any]:
        def look() -> object:
            used.add(name)
            return value

        # One for each: an inner fragment sees that the context's user is the request's.
        return stand_ins.setdefault(id(value), SimpleLazyObject(look))

    request = getattr(context, "request", None) or context.get("request")
    getattr(request, "COOKIES", None)  # parsed when it is first asked for
    holders = [vars(each) for each in (request, getattr(request, "_request", None)) if each]
    meta = getattr(request, "META", {})
    swapped = [
        (holder, name, holder[name], watcher(what, holder[name]))
        for holder in holders
        for name, what in _ON_REQUEST.items()
        if name in holder and what not in named
    ]
    in_context = {
        name: watcher(what, context[name])
        for name, what in _IN_CONTEXT.items()
        if what not in named and name in context and _is_own(name, context[name], request)
    }
    had_token = meta.pop(_CSRF, None)
    for holder, name, _, stand_in in swapped:
        holder[name] = stand_in
    try:
        with context.push(**in_context):
            yield used
    finally:
        for holder, name, real, stand_in in swapped:
            if holder.get(name) is stand_in:
                holder[name] = real
        if _CSRF in meta:
            used.add("csrf_token")
        elif had_token is not None:
            meta[_CSRF] = had_token


def _is_own(name: str, value: object, request: object) -> bool:
    """Whether a view has not given the name to something of its own: another's profile, a list."""
    attribute = {"user": "user", "messages": "_messages"}.get(name)
    return attribute is None or getattr(request, attribute, value) is value
