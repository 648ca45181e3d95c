"""``never_nudged`` and ``nudged_site``: which views a cached site leaves out, or takes in.

A mark is on the function, where it is found before the view runs, and comes on the request when the
view runs: so it also counts on a method, and on a view that another view calls.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeAlias

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest

from django_pgnudge.errors import ConfigError
from django_pgnudge.pages.inputs import RequestInputs, raw
from django_pgnudge.reader.function_names import qualified_name

View: TypeAlias = Callable[..., Any]

NEVER: Final = "never"
MARKED: Final = "marked"

_ON_REQUEST: Final = "_pgnudge_site"
_ON_VIEW: Final = "pgnudge_site"


def never_nudged(view: View) -> View:
    """``NudgedSiteMiddleware`` leaves out the pages that this view makes.

    On a method or a class: ``@method_decorator(never_nudged, name="dispatch")``.
    """
    return _marked(view, NEVER)


def nudged_site(view: View) -> View:
    """With ``"SITE": "marked"`` in ``PGNUDGE["NUDGED"]`` the middleware keeps only such pages."""
    return _marked(view, MARKED)


def mark_on(view: object) -> str | None:
    """The mark of a function, which its decorators copy."""
    return getattr(view, _ON_VIEW, None)


def mark_of(request: HttpRequest) -> str | None:
    """The mark of the views that have run for a request; ``NEVER`` wins."""
    held = raw(request)
    marks = held.get(_ON_REQUEST), mark_on(getattr(held.get("resolver_match"), "func", None))
    return NEVER if NEVER in marks else marks[0] or marks[1]


def _marked(view: View, mark: str) -> View:
    def note(given: object) -> None:
        request = RequestInputs(given).request
        if not isinstance(request, HttpRequest):
            raise ConfigError(
                f"{qualified_name(view)} is marked for NudgedSiteMiddleware and gets no request as"
                " its first argument. Decorate a method by method_decorator()."
            )
        held = raw(request)
        held[_ON_REQUEST] = NEVER if NEVER in (mark, held.get(_ON_REQUEST)) else mark

    @wraps(view)
    async def ainner(request: Any, *args: Any, **kwargs: Any) -> Any:
        note(request)
        return await view(request, *args, **kwargs)

    @wraps(view)
    def inner(request: Any, *args: Any, **kwargs: Any) -> Any:
        note(request)
        return view(request, *args, **kwargs)

    found = ainner if iscoroutinefunction(view) else inner
    setattr(found, _ON_VIEW, mark)
    return found
