"""Whose schema is read: each thread serves one tenant at a time, by search_path."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from django.db import connection


class _Here(threading.local):
    tenant: str | None = None


_here = _Here()


def scope(_: str) -> tuple[str, ...] | None:
    """For `SCOPE`: the schemas of the tenant at hand."""
    return None if _here.tenant is None else (_here.tenant, "public")


@contextlib.contextmanager
def serving(tenant: str) -> Iterator[None]:
    """Serve one."""
    _here.tenant = tenant
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET search_path TO {tenant}, public")
        yield
        with connection.cursor() as cursor:
            cursor.execute("RESET search_path")
    except BaseException:
        # Whatever path this session has now, the next one begins with that of the database.
        connection.close()
        raise
    finally:
        _here.tenant = None
