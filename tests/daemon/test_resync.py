"""daemon/resync.py: what a Resync clears."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches

from tests.daemon.running import Heard, fill, running, stored
from tests.waiting import until

if TYPE_CHECKING:
    from pytest_django.fixtures import Settings

pytestmark = pytest.mark.usefixtures("flaky_caches")


@pytest.mark.parametrize(
    ("mode", "left", "left_fast"),
    [
        ("versions", set(), set()),
        ("keys", {"other"}, {"price:1", "price:2", "other"}),
        ("clear", set(), set()),
    ],
)
async def test_a_resync_clears_by_setting_and_then_tells(
    mode: str, left: set[str], left_fast: set[str], settings: Settings, heard: Heard
) -> None:
    settings.PGNUDGE = {**settings.PGNUDGE, "RESYNC": mode}
    django_caches["default"].set("v2", 1, version=2)
    async with running() as (_, feed):
        fill()
        feed.connected()
        await until(lambda: heard.calls)
    assert heard.calls[0][0] == "resync"
    assert heard.calls[0][1]["reason"] == "connected"
    assert heard.stored == [left]
    assert stored("fast") == left_fast
    assert (django_caches["default"].get("v2", version=2) is None) == (mode == "clear")


CALLED: list[dict[str, Any]] = []


def clear_my_way(**given: Any) -> None:
    CALLED.append(given)
    if len(CALLED) < 3:
        msg = "not yet"
        raise ConnectionError(msg)


@pytest.mark.usefixtures("heard")
async def test_a_resync_of_ones_own_is_called_until_it_succeeds(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.PGNUDGE = {**settings.PGNUDGE, "RESYNC": f"{__name__}.clear_my_way"}
    CALLED.clear()
    async with running() as (_, feed):
        fill()
        feed.connected("overflow")
        await until(lambda: len(CALLED) == 3)
        assert CALLED == [{"reason": "overflow", "using": "default"}] * 3
        assert stored() == {"prices", "price:1", "price:2", "other"}
    assert "clear_my_way' raised; it will be called again" in caplog.text
