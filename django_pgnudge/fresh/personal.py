"""What a fragment reads of the request: through the request, and through the template's context.

Context processors hand on what is on the request under names of their own. While a fragment is
rendered, stand-ins are in their places, which note when they are used, whichever tag asks for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from django.utils.functional import SimpleLazyObject

from django_pgnudge.fresh.inputs import Asked, raw
from django_pgnudge.fresh.noticing import Reads, note_read

if TYPE_CHECKING:
    from django.template.base import FilterExpression
    from django.template.context import Context

__all__ = ["asked_in", "named_in", "used_in"]

_NAMED_AS: Final = {
    "session": ("session key", "session data"),
    "COOKIES": ("cookie *", "all cookie", "header cookie"),
    "META": ("meta *",),
    "headers": ("header *",),
    "scope": ("scope *",),
}
"""What of the request is covered when this of it is named; other names are those of attributes."""

_PERMS: Final = "perms"
_TOKEN: Final = "csrf_token"  # noqa: S105 - a name in templates

_CSRF: Final = "CSRF_COOKIE_NEEDS_UPDATE"
"""Django's ``get_token`` sets it each time, for the middleware."""

_PLAIN: Final = (type(None), bool, int, float, str, bytes)


class Named(frozenset[str]):
    """The inputs that the author of a fragment has named; one may end in a star."""

    def covers(self, name: str) -> bool:
        return name in self or f"{name.partition(' ')[0]} *" in self


def named_in(expressions: Iterable[FilterExpression]) -> Named:
    """What of the request is named in these expressions, such as ``request.user.pk``."""
    named: set[str] = set()
    for expression in expressions:
        arguments = [value for _, each in expression.filters for by_name, value in each if by_name]
        for variable in (expression.var, *arguments):
            lookups: tuple[str, ...] = getattr(variable, "lookups", None) or ("",)
            first = lookups[1] if lookups[0] == "request" and len(lookups) > 1 else lookups[0]
            named.update(_NAMED_AS.get(first, (f"attribute {first}", f"wrapper _{first}")))
    return Named(named)


def asked_in(context: Context) -> Asked | None:
    """The request that a template is rendered for, if it knows any."""
    request = getattr(context, "request", None) or context.get("request")
    return Asked(request) if hasattr(request, "META") else None


@contextmanager
def used_in(context: Context, asked: Asked, named: Named) -> Iterator[tuple[Reads, set[str]]]:
    """Notes what the block reads; fills the set with what is its reader's alone, whatever it is."""
    reads, used = Reads(asked, address_is_named=False), set[str]()
    meta = asked.request.META
    had_token = _taken(meta)
    reads.start()
    try:
        with context.push(**_stand_ins(context, asked, named, used)):
            yield reads, used
    finally:
        reads.stop()
        if (has_token := _taken(asked.request.META)) is not None:
            used.add(_TOKEN)
        if (token := had_token if has_token is None else has_token) is not None:
            asked.request.META[_CSRF] = token
        held = raw(asked.request)
        if "attribute _messages" in reads.values:
            messages = held.get("_messages")
            if getattr(messages, "_loaded_data", None) or getattr(messages, "used", False):
                used.add("messages")
        if {"attribute csp_nonce", "attribute _csp_nonce"} & reads.values.keys():
            used.add("csp_nonce")


def _taken(meta: dict[str, Any]) -> Any:
    """Django's mark that a token was used, which is no longer there; without a note."""
    return dict.pop(meta, _CSRF, None) if isinstance(meta, dict) else None


class _StandIn(SimpleLazyObject):  # type: ignore[type-arg]
    """In the place of what is on the request."""


def _stand_ins(context: Context, asked: Asked, named: Named, used: set[str]) -> dict[str, _StandIn]:
    on_request = {
        id(value): f"{kind} {name}"
        for kind in ("wrapper", "attribute")
        for name, value in asked.held(kind).items()
        if type(value) not in _PLAIN and all(value is not each for each in asked.known)
    }

    def stand_in(name: str, value: object) -> _StandIn:
        def look() -> object:
            if name == _TOKEN:
                used.add(_TOKEN)
            else:
                note_read(asked, name)
            return value

        made = _StandIn(look)
        raw(made)["stands_for"] = name
        return made

    found = {}
    everything: dict[Any, Any] = context.flatten()
    for name, value in everything.items():
        if type(value) is _StandIn:  # of a fragment around this one
            what = raw(value)["stands_for"]
        elif name == _TOKEN:
            what = _TOKEN
        elif name == _PERMS:
            what = "" if named.covers(f"attribute {_PERMS}") else "attribute user"
        else:
            what = on_request.get(id(value), "")
        if what and not named.covers(what):
            found[str(name)] = stand_in(what, value)
    return found
