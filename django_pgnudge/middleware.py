"""``NudgedSiteMiddleware``: every page of a site, or of marked views, as a nudged value."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest

from django_pgnudge.pages.site import Site


class NudgedSiteMiddleware:
    """Keeps the responses of everything below it until something they depend on changes.

    Write it first in ``MIDDLEWARE``: what is above it runs for each request, and what that reads is
    not seen.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._site = Site()
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._acall(request)
        return self._site.answer(request, self.get_response)

    async def _acall(self, request: HttpRequest) -> Any:
        get_response: Callable[[HttpRequest], Awaitable[Any]] = self.get_response
        return await self._site.aanswer(request, get_response)
