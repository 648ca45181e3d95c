"""``nudged_condition``, in the manner of ``condition``: an ETag made of tokens.

As long as the tokens stand, what the view would read is what it read: 304, for one question to
the cache, and no view runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.utils.translation import get_language

from django_pgnudge.fresh.decorator import check_dependencies
from django_pgnudge.fresh.driving import arun, run
from django_pgnudge.fresh.reading import stamp_now
from django_pgnudge.fresh.values import Options, Value

if TYPE_CHECKING:
    from django.http import HttpRequest

    from django_pgnudge.fresh.dependencies import DependsOn
    from django_pgnudge.fresh.entries import Stamp
    from django_pgnudge.fresh.pages import View

__all__ = ["nudged_condition"]


def nudged_condition(
    *depends_on: DependsOn,
    vary_on: Iterable[str] = ("Cookie", "Authorization", "Accept-Language"),
    etag: Callable[..., str] | None = None,
    cache: str | None = None,
    using: str | None = None,
) -> Callable[[View], View]:
    """Answer 304 to a browser that has what the view would send.

    Two requests are asked the same only if the headers of ``vary_on`` are the same; they are added
    to the response's ``Vary``. ``etag`` gets the view's arguments and returns what else the page
    depends on, such as the version of the code. There is no ETag without a lease.
    """
    check_dependencies(depends_on, "nudged_condition()")
    options = Options(cache=cache, using=using, wait=0.0)
    headers = tuple(vary_on)

    def decorate(view: View) -> View:
        what = f"condition {view.__module__}.{getattr(view, '__qualname__', '')}"

        def tag(stamp: Stamp | None, request: HttpRequest, args: Any, kwargs: Any) -> str | None:
            if stamp is None:
                return None
            more = "" if etag is None else etag(request, *args, **kwargs)
            language = get_language()
            sent = [request.headers.get(name) for name in headers]
            seen = (stamp.text(), request.get_full_path(), sent, language, more)
            return f'W/"{hashlib.sha256(repr(seen).encode()).hexdigest()[:32]}"'

        def finish(request: HttpRequest, response: Any, found: str | None) -> Any:
            if found is not None and response.status_code in (200, 304):
                response.headers.setdefault("ETag", found)
                patch_vary_headers(response, headers)
            return response

        @wraps(view)
        async def ainner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.method not in ("GET", "HEAD"):
                return await view(request, *args, **kwargs)
            value = Value("condition", depends_on, options, what)
            prepared = await value.arecipe()
            stamp = None
            if prepared is not None:
                stamp = await arun(stamp_now(prepared[0]), prepared[1], _never)
            found = tag(stamp, request, args, kwargs)
            response = found and get_conditional_response(request, found)
            if not response:
                response = await view(request, *args, **kwargs)
            return finish(request, response, found)

        @wraps(view)
        def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            if request.method not in ("GET", "HEAD"):
                return view(request, *args, **kwargs)
            value = Value("condition", depends_on, options, what)
            prepared = value.recipe(on_loop=False)
            stamp = None
            if prepared is not None:
                stamp = run(stamp_now(prepared[0]), prepared[1], _never)
            found = tag(stamp, request, args, kwargs)
            response = found and get_conditional_response(request, found)
            if not response:
                response = view(request, *args, **kwargs)
            return finish(request, response, found)

        return ainner if iscoroutinefunction(view) else inner

    return decorate


def _never() -> Any:
    raise AssertionError("taking a stamp computes nothing")
