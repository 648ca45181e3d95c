"""rendering: pages whose maker renders them late are waited for, and no longer than they take."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.template.response import SimpleTemplateResponse
from django.test import RequestFactory

from django_pgnudge import nudged_page
from django_pgnudge.pages.rendering import renderings
from django_pgnudge.reader.single_flight import flights
from tests.shop.models import Product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.http import HttpRequest

    from django_pgnudge.testing import NudgeFake

HERD = 6

get = RequestFactory().get


@pytest.fixture(autouse=True)
def nothing_is_left(nudge_fake: NudgeFake) -> Iterator[None]:
    caches["default"].clear()
    nudge_fake.lease()
    yield
    assert (len(flights), len(renderings)) == (0, 0)


class Page:
    """A view whose rendering lasts until the view has run twice, or for a moment."""

    __qualname__ = "Page"

    def __init__(self) -> None:
        self.runs = 0
        self.ran_again = threading.Event()
        self.is_slow = False

    def __call__(self, request: HttpRequest) -> SimpleTemplateResponse:
        self.runs += 1
        if self.runs > 1:
            self.ran_again.set()
        return SimpleTemplateResponse(self)  # type: ignore[arg-type]

    async def acall(self, request: HttpRequest) -> SimpleTemplateResponse:
        return self(request)

    def render(self, context: Any, request: HttpRequest | None) -> str:
        if self.is_slow:
            self.ran_again.wait(0.5)
        return "rendered"

    def known(self, page: Callable[..., Any], nudge_fake: NudgeFake) -> None:
        """The headers of the page are known, and it has to be made anew, slowly."""
        nudge_fake.changed(Product)
        self.runs, self.is_slow = 0, True
        self.ran_again.clear()


def test_a_herd_makes_and_renders_a_page_once(nudge_fake: NudgeFake) -> None:
    view = Page()
    page = nudged_page(60, Product, wait=30)(view)
    page(get("/a")).render()
    view.known(page, nudge_fake)
    with ThreadPoolExecutor(HERD) as pool:
        made = list(pool.map(lambda _: page(get("/a")).render().content, range(HERD)))
    assert made == [b"rendered"] * HERD
    assert view.runs == 1


async def test_a_herd_of_tasks_makes_and_renders_a_page_once(nudge_fake: NudgeFake) -> None:
    view = Page()
    page = nudged_page(60, Product, wait=30)(view.acall)

    async def ask() -> bytes:
        response = await page(get("/a"))
        await sync_to_async(response.render)()
        return bytes(response.content)

    await ask()
    view.known(page, nudge_fake)
    assert await asyncio.gather(*[ask() for _ in range(HERD)]) == [b"rendered"] * HERD
    assert view.runs == 1


def test_a_page_that_is_never_rendered_keeps_nobody_waiting(nudge_fake: NudgeFake) -> None:
    view = Page()
    page = nudged_page(60, Product, wait=600)(view)
    page(get("/a")).render()
    view.known(page, nudge_fake)
    with ThreadPoolExecutor(HERD) as pool:
        # The response is thrown away at once.
        asked = [pool.submit(lambda: bool(page(get("/a")))) for _ in range(HERD)]
        done, _ = wait(asked, timeout=120)
        assert len(done) == HERD
    assert view.runs == HERD


def test_nobody_waits_for_a_page_of_its_own(nudge_fake: NudgeFake) -> None:
    """A view that calls another twice has the first answer still to render."""
    view = Page()
    page = nudged_page(60, Product, wait=600)(view)
    page(get("/a")).render()
    view.known(page, nudge_fake)
    asked = threading.Thread(target=lambda: (page(get("/a")), page(get("/a"))), daemon=True)
    asked.start()
    asked.join(120)
    assert not asked.is_alive()
    assert view.runs == 2


@pytest.mark.parametrize("why", ["its transaction has written", "there is no lease"])
def test_nobody_waits_for_a_page_that_it_may_not_be_served(
    nudge_fake: NudgeFake, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    view = Page()
    page = nudged_page(60, Product, wait=600)(view)
    page(get("/a")).render()
    nudge_fake.changed(Product)
    to_render = page(get("/a"))
    if why == "there is no lease":
        nudge_fake.no_lease()
    else:
        monkeypatch.setattr(nudge_fake.state.sessions, "may_use_cache", lambda *args: False)
    asked = threading.Thread(target=lambda: page(get("/a")), daemon=True)
    asked.start()
    asked.join(20)
    is_waiting = asked.is_alive()
    to_render.render()
    asked.join(120)
    assert not is_waiting


async def test_nothing_is_kept_by_a_loop_that_renders(nudge_fake: NudgeFake) -> None:
    """It must not wait for the cache, and the transaction is in another thread."""
    view = Page()
    page = nudged_page(60, Product)(view.acall)
    (await page(get("/a"))).render()
    await page(get("/a"))
    assert view.runs == 2
