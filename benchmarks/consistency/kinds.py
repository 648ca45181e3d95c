"""Values of further kinds: inside others, pages of two users, of tenants, of a router's choice.

Each has what a `Target` has: a key, a kind, `compute` and `get`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.db import connection
from django.test import Client

from benchmarks.consistency import targets
from benchmarks.consistency.records import Seen
from benchmarks.consistency.site import pages
from benchmarks.consistency.site.models import Item, RoutedPrice
from benchmarks.consistency.site.settings import NUDGED_CACHE, SECOND_CACHE
from benchmarks.consistency.site.tables import TENANTS
from benchmarks.consistency.site.tenants import serving
from django_pgnudge import nudged

Compute = Callable[[], Any]

USERS: Final = ("", "ann", "bob")
VIEWS: Final = ("everybody", "mine", "late", "unnamed", "whole")


class AnothersError(Exception):
    """Somebody was given what is another's."""


@dataclass(frozen=True)
class Nested:
    """A row in a value of its own, inside the value of another row."""

    outer: Any
    inner: Any
    kind: str = "nested"

    @property
    def key(self) -> str:
        return f"{self.outer.key} with {self.inner.key} in {self.inner.cache}"

    def compute(self) -> list[Seen]:
        inside, _ = self.inner.get(self.inner.compute)
        return [*self.outer.compute(), *(Seen(*each) for each in inside)]

    def get(self, compute: Compute) -> tuple[Any, bool]:
        depends_on = targets.dependencies(self.outer)
        return targets.get_nudged(self.key, depends_on, compute, self.outer.cache)


@dataclass(frozen=True)
class Page:
    """A page of one user."""

    view: str
    row: int
    user: str
    kind: str = "page"

    @property
    def key(self) -> str:
        return f"page:{self.view}:{self.row}:{self.user}"

    def compute(self) -> list[Seen]:
        """The view does it."""
        return []

    def get(self, compute: Compute) -> tuple[Any, bool]:
        before = pages.made.count
        found = json.loads(_client(self.user).get(f"/{self.view}/{self.row}").content)
        if found["name"] not in {None, self.user}:
            raise AnothersError(f"{self.user!r} was given the page of {found['name']!r}")
        return found["rows"], pages.made.count == before


class _Clients(threading.local):
    def __init__(self) -> None:
        self.by_user: dict[str, Client] = {}


_clients = _Clients()


def _client(user: str) -> Client:
    client = _clients.by_user.get(user)
    if client is None:
        client = _clients.by_user[user] = Client()
        if user:
            session = SessionStore()
            session["name"] = user
            session.save()
            client.cookies["sessionid"] = str(session.session_key)
    return client


@dataclass(frozen=True)
class Tenant:
    """A row of the table that search_path leads to; the same key for both tenants."""

    tenant: str
    row: int
    kind: str = "tenant"

    @property
    def key(self) -> str:
        return f"tenant:{self.row}"

    def compute(self) -> list[Seen]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_schema() || '.item', id, version FROM item WHERE id = %s",
                [self.row],
            )
            return [Seen(*each) for each in cursor.fetchall()]

    def get(self, compute: Compute) -> tuple[Any, bool]:
        with serving(self.tenant):
            value, hit = targets.get_nudged(self.key, [nudged.row(Item, self.row)], compute)
        for each in value:
            if each[0] != f"{self.tenant}.item":
                raise AnothersError(f"{self.tenant} was given {each[0]}")
        return value, hit


@dataclass(frozen=True)
class Routed:
    """Rows that a router has read here or from a copy that lags."""

    key: str
    kind: str = "routed"

    def compute(self) -> list[Seen]:
        rows = RoutedPrice.objects.filter(id__lte=4).order_by("id").values_list("id", "version")
        return [Seen("price", *each) for each in rows]

    def get(self, compute: Compute) -> tuple[Any, bool]:
        return targets.get_nudged(self.key, [RoutedPrice], compute)


def everything() -> list[Any]:
    """All of them."""
    row = targets.row_target
    found: list[Any] = [Routed(f"routed:{number}") for number in range(8)]
    for number in range(1, 5):
        for cache in (NUDGED_CACHE, SECOND_CACHE):
            inner = row("product", number)._replace(cache=cache)
            found.append(Nested(row("price", number), inner))
            found.append(Nested(row("part", number), inner))
        found += [Tenant(tenant, number) for tenant in TENANTS]
        found += [Page(view, number, user) for user in USERS for view in VIEWS]
    return found
