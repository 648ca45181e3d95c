"""nudged_page, and the middleware for whole sites, in whole requests: nobody gets a byte of
another's page, and what is all's is shared.

Two users and an anonymous visitor take turns at pages of each kind, which use each thing of their
reader, with middleware that adds to the context and without, with ATOMIC_REQUESTS and without.
"""

from __future__ import annotations

import itertools
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connections
from django.middleware.csrf import _does_token_match  # type: ignore[attr-defined]
from django.test import AsyncClient, Client
from django.test.utils import override_settings

from django_pgnudge import nudged
from tests.fix_nudged import asking_postgres
from tests.pages.page_site import (
    KINDS,
    MIDDLEWARE,
    PRODUCTS,
    TEMPLATES,
    USES,
    Around,
    Touching,
    runs,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django_pgnudge.testing import NudgeFake

    Browser = type[Client | AsyncClient]

# No token, being letters and digits, has one of these in it.
PEOPLE = ANN, BOB, NOBODY = ("ann-one", "bob-two", "nobody-at-all")
TURNS = (ANN, BOB, NOBODY, BOB, ANN, NOBODY)
SITE = "django_pgnudge.middleware.NudgedSiteMiddleware"
TOUCHING = f"{Touching.__module__}.{Touching.__qualname__}"


@pytest.fixture
def cookies(django_postgres: Any, nudge_fake: NudgeFake, settings: Any) -> Iterator[dict[str, Any]]:
    """The cookies of each person who has logged in, if they could; the site is ready."""
    settings.ROOT_URLCONF = "tests.pages.page_site"
    settings.TEMPLATES = TEMPLATES
    caches["default"].clear()
    clients = {name: Client() for name in PEOPLE}
    for name in PEOPLE[:2]:
        clients[name].force_login(User.objects.create(username=name))
    with asking_postgres(nudge_fake):
        # The first value of an epoch has a process read the catalogs; a page leaves it at that.
        nudged.get_or_set("first", 1, depends_on=["own"])
        yield {name: client.cookies for name, client in clients.items()}


@contextmanager
def arranged(
    *, touching: bool, atomic: bool, first: Sequence[str] = (), more: Sequence[str] = ()
) -> Iterator[None]:
    middleware = [*first, *MIDDLEWARE, *more, *([TOUCHING] if touching else [])]
    database = mock.patch.dict(connections.settings["default"], ATOMIC_REQUESTS=atomic)
    with override_settings(MIDDLEWARE=middleware), database:
        yield


class Visitor:
    """One person's browser."""

    def __init__(self, name: str, browser: Browser, cookies: Any) -> None:
        self.name = name
        self._client = browser(raise_request_exception=False)
        self._client.cookies.update(cookies)

    def get(self, address: str, **query: str) -> Any:
        get: Any = self._client.get
        ask = get if isinstance(self._client, Client) else async_to_sync(get)
        return ask(address, query, headers={"X-Visitor": self.name})

    def wrong_with(self, response: Any, use: str, message: str) -> str | None:
        """What an answer holds that is not this person's, or lacks that is."""
        text = response.getvalue().decode()
        if response.status_code != 200:
            return f"has status {response.status_code}"
        everything = f"{text}{response.serialize_headers()!r}{response.cookies}"
        for name in PEOPLE:
            if name != self.name and name in everything:
                return f"is of {name}"
        found = re.findall(r"(user|token|message)=([^;]*);", text)
        match use:
            case "session":
                return None if found == [("user", self.name)] else f"shows {found}"
            case "messages":
                return None if found == [("message", message)] else f"shows {found}"
            case "cookie":
                return None if "visitor" in response.cookies else "sets no cookie"
            case "csrf":
                cookie = self._client.cookies.get("csrftoken")
                secret = "" if cookie is None else cookie.value
                if found and all(secret and _does_token_match(each, secret) for _, each in found):
                    return None
                return "has a token that is not its reader's"
        return None


def visit(
    kind: str, use: str, cell: str, browser: Browser, cookies: Any, run: range | None = None
) -> Iterator[str]:
    """All take their turns at one page; yields what is wrong with what they get.

    ``run`` is how often its view may run; by default once for each who gets another page.
    """
    visitors = {name: Visitor(name, browser, cookies[name]) for name in PEOPLE}
    for turn, name in enumerate(TURNS):
        message = f"{name} {turn}"
        if use == "messages":
            visitors[name].get("/say/", text=message)
        response = visitors[name].get(f"/{kind}/{use}/", cell=cell)
        if (reason := visitors[name].wrong_with(response, use, message)) is not None:
            yield f"{use} {cell}: {name}'s page in turn {turn} {reason}"
        if TOUCHING in cell and "template" in kind and b"touched;" not in response.content:
            yield f"{use} {cell}: {name}'s page in turn {turn} was not touched"
    expected = range(len(TURNS), len(TURNS) + 1)
    if "streaming" not in kind and use in ("session", "none"):
        once = len(PEOPLE) if use == "session" else 1
        expected = range(once, once + 1) if run is None else run
    if (ran := runs.pop(cell, 0)) not in expected:
        yield f"{use} {cell}: the view ran {ran} times, not {expected}"


def handler_of(kind: str) -> Browser:
    return AsyncClient if "coroutine" in kind else Client


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_gets_another_s_page_and_what_is_all_s_is_shared(kind: str, cookies: Any) -> None:
    wrong: list[str] = []
    for use, touching, atomic in itertools.product(USES, (False, True), (False, True)):
        with arranged(touching=touching, atomic=atomic):
            cell = f"{TOUCHING if touching else ''} {'atomic' if atomic else ''}"
            wrong += visit(kind, use, cell, handler_of(kind), cookies)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_over_the_whole_site(kind: str, cookies: Any) -> None:
    """Of views that nobody has nudged; and all their readers have cookies."""
    wrong: list[str] = []
    for use, touching, atomic in itertools.product(USES, (False, True), (False, True)):
        with arranged(touching=touching, atomic=atomic, first=[SITE]):
            cell = f"{TOUCHING if touching else ''} {'atomic' if atomic else ''}"
            browser = handler_of(kind)
            # Once more for each that may learn which tables are read.
            first = range(1, 3) if use == "none" else range(3, 5)
            wrong += visit(f"site/{kind}", use, cell, browser, cookies, first)
            wrong += visit(f"site/{kind}", use, cell, browser, cookies, range(1))
    assert not wrong, "\n".join(wrong)


def test_it_is_the_same_on_the_handler_that_is_not_the_view_s_own(cookies: Any) -> None:
    wrong: list[str] = []
    with arranged(touching=True, atomic=False):
        for kind, use in itertools.product(KINDS, USES):
            browser: Browser = Client if handler_of(kind) is AsyncClient else AsyncClient
            wrong += visit(kind, use, f"{TOUCHING} {kind}", browser, cookies)
    assert not wrong, "\n".join(wrong)


def test_nothing_is_left_of_a_transaction_that_was_taken_back(cookies: Any) -> None:
    """Not in the cache, and not in a browser that would be told it is still true."""
    wrong = []
    for name, touching in itertools.product(PRODUCTS, (False, True)):
        around = [f"{Around.__module__}.{Around.__qualname__}"] if "rendered" in name else []
        address, client = f"/{name}/?{touching}", Client()
        with arranged(touching=touching, atomic=True, more=around):
            first = client.get(address, headers={"X-Write": "1"})
            assert b"never" in first.content
            tag = first.headers.get("ETag", "")
            again = client.get(address, headers={"If-None-Match": tag})
            if b"never" in again.content or again.status_code != 200:
                wrong.append(f"{name}, touching={touching}: {again.status_code} {again.content!r}")
            if name.endswith("tag"):
                tag = again.headers.get("ETag", "")
                assert client.get(address, headers={"If-None-Match": tag}).status_code == 304
    assert not wrong, "\n".join(wrong)
