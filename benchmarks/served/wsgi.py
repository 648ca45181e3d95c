"""The application of either site; `X-Queries` says how often a request asked the database."""

from __future__ import annotations

import threading
from typing import Any, Final

from django.core.wsgi import get_wsgi_application
from django.db.backends.signals import connection_created

QUERIES: Final = "X-Queries"

_of_thread = threading.local()


def _count(execute: Any, *args: Any) -> Any:
    _of_thread.queries = getattr(_of_thread, "queries", 0) + 1
    return execute(*args)


def _watch(connection: Any, **_: object) -> None:
    if _count not in connection.execute_wrappers:
        connection.execute_wrappers.append(_count)


connection_created.connect(_watch)
_site = get_wsgi_application()


def application(environ: dict[str, Any], start_response: Any) -> Any:
    """Django's, above all of its middleware."""
    _of_thread.queries = 0

    def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
        return start_response(status, [*headers, (QUERIES, str(_of_thread.queries))], *more)

    return _site(environ, start)
