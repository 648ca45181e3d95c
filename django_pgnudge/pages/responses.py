"""The address of a request as a name, and what makes a response personal.

`recording` finds everything else of the request that a response depends on.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from django.contrib.messages import get_messages
from django.http import QueryDict
from django.http.response import HttpResponseBase
from django.utils.cache import patch_vary_headers
from django.utils.timezone import get_current_timezone
from django.utils.translation import get_language

from django_pgnudge.pages.inputs import own_class, raw
from django_pgnudge.reader.content_text import content_digest
from django_pgnudge.reader.function_names import qualified_name

if TYPE_CHECKING:
    from django.http import HttpRequest

_SEPARATOR: Final = re.compile(r"\s*,\s*")

_POLICIES: Final = ("Content-Security-Policy", "Content-Security-Policy-Report-Only")


def named(request: HttpRequest) -> tuple[object, ...]:
    """The name of a page without its headers: the address, the language and the time zone.

    Not the absolute URI, which has ``/b`` for ``/a/../b``; a view can tell the two apart.
    """
    return (
        qualified_name(own_class(request)),
        request.scheme,
        request.get_host(),
        request.path,
        request.path_info,
        request.META.get("QUERY_STRING", ""),
        request.encoding,
        _query_of_its_own(request),
        str(getattr(request, "urlconf", None)),
        getattr(request, "LANGUAGE_CODE", None),
        *shown_in(),
    )


def shown_in() -> tuple[str | None, ...]:
    """The current language and time zone; two zones may have the same name."""
    zone = get_current_timezone()
    return get_language(), zone.tzname(None), str(zone), repr(zone)


def _query_of_its_own(request: HttpRequest) -> tuple[object, ...] | None:
    """The contents of ``GET`` if middleware made it differ from the address, else None."""
    query = raw(request).get("GET")
    if query is None:  # not read yet
        return None
    if type(query) is not QueryDict:
        return (content_digest(query, (request,), strict=True),)
    said = QueryDict(request.META.get("QUERY_STRING", ""), encoding=query.encoding)
    if query == said:
        return None
    return tuple((name, tuple(values)) for name, values in query.lists())


def is_late(response: Any) -> bool:
    """Whether a response is not rendered yet."""
    return isinstance(response, HttpResponseBase) and not getattr(response, "is_rendered", True)


def vary_of(response: HttpResponseBase) -> frozenset[str] | None:
    """The headers that a response's ``Vary`` names, in lower case; None for ``*``."""
    names = _SEPARATOR.split(response.headers.get("Vary", "").strip().lower())
    return None if "*" in names else frozenset(filter(None, names))


def vary_on_what_was_used(
    request: HttpRequest, response: HttpResponseBase, *, cookies: bool
) -> None:
    """Complete ``Vary`` for caches between server and browser, as middleware would do later.

    ``cookies`` says whether the response depends on cookies.
    """
    session = raw(request).get("session")
    if cookies or getattr(session, "accessed", False):
        patch_vary_headers(response, ("Cookie",))
    if request.META.get("HTTP_AUTHORIZATION") and "public" not in _cache_control(response):
        patch_vary_headers(response, ("Authorization",))


def why_personal(request: HttpRequest, response: HttpResponseBase) -> str:
    """Why a rendered response is personal and must not be shared; empty if it may be shared.

    A mere read is no reason: the page is kept under the value that was read.
    """
    messages: Any = get_messages(request)
    if getattr(messages, "added_new", False):
        return "it added messages"
    shown = getattr(messages, "used", False) and len(messages)
    if shown or getattr(messages, "_loaded_data", None):
        return "it showed messages"
    # Set by Django 6 (``django.middleware.csp``), false until used, and by django-csp.
    if getattr(request, "_csp_nonce", None):
        return "it used a nonce of its content security policy"
    if response.cookies or response.has_header("Set-Cookie"):
        return "it set a cookie"
    if any("'nonce-" in response.headers.get(policy, "") for policy in _POLICIES):
        return "it used a nonce of its content security policy"
    return "it varies on everything" if vary_of(response) is None else ""


def why_not_stored(response: HttpResponseBase) -> str:
    """Why the ``Cache-Control`` of a response forbids to keep it; empty if it does not."""
    control = _cache_control(response)
    forbids = any(word in control for word in ("private", "no-cache", "no-store"))
    return f"its Cache-Control is {control!r}" if forbids else ""


def _cache_control(response: HttpResponseBase) -> str:
    return str(response.headers.get("Cache-Control", "")).lower()
