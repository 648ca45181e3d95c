"""Cached pages beside what their views make now, in a worker.

A request with the header `X-Plain` is answered by the view below `nudged_page`.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.test import Client

from django_pgnudge import settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.http import HttpRequest, HttpResponse

runs: Counter[str] = Counter()
"""How often a view has run for an address below `nudged_page`."""


def counted(view: Callable[..., Any]) -> Callable[..., Any]:
    """The view, counted; to stand between it and `nudged_page`."""

    @wraps(view)
    def inner(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if "X-Plain" not in request.headers:
            runs[request.get_host() + request.get_full_path()] += 1
        return view(request, *args, **kwargs)

    return inner


class plain:  # noqa: N801 - named where settings name it
    """Middleware that takes `nudged_page` from a view if the request says so."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: Any, kwargs: Any
    ) -> HttpResponse | None:
        if "X-Plain" not in request.headers:
            return None
        response: HttpResponse = view.__wrapped__(request, *args, **kwargs)
        return response


def get(path: str, client: Client | None = None, host: str = "testserver") -> tuple[int, str, int]:
    """Status, body, and how often the view ran for it."""
    before = runs[host + path]
    response = (client or Client()).get(path, headers={"host": host})
    return response.status_code, _text(response), runs[host + path] - before


def warm(paths: Iterable[str], host: str = "testserver") -> list[str]:
    """Ask for pages until each is served without its view; those that were not in 10 seconds."""
    late = []
    for path in paths:
        deadline = time.monotonic() + 10.0
        while get(path, host=host)[2]:
            if time.monotonic() > deadline:
                late.append(path)
                break
    return late


def stale(paths: Iterable[str], host: str = "testserver") -> list[str]:
    """The pages that differ from what their views make, once the caches have seen all commits."""
    if not settled(10.0):
        return ["settled() had no answer"]
    different = []
    for path in paths:
        now = Client().get(path, headers={"host": host, "x-plain": "1"})
        status, body, _ = get(path, host=host)
        if (status, body) != (now.status_code, _text(now)):
            different.append(path)
    return different


def _text(response: Any) -> str:
    return str(response.content.decode()) if not response.streaming else "(a stream)"
