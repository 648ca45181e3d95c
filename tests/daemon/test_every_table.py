"""A rule for every table: one round of deletes a batch, also where only clear() is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches

from django_pgnudge import caches, page
from django_pgnudge.daemon import core as daemon_module
from tests.daemon.running import running
from tests.fakes import event
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django.fixtures import Settings


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "feed_connection", lambda using: {"host": "nowhere"})


async def test_a_batch_of_many_tables_is_one_round(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PGNUDGE = {"INVALIDATE": {"*": [page(prefix="*"), "menu"]}}
    rounds: list[Any] = []
    run = caches.run

    def counted(alias: str, given: Any) -> Any:
        rounds.extend(given.deletes.values())
        return run(alias, given)

    monkeypatch.setattr(caches, "run", counted)
    async with running() as (_, feed):
        feed.say(*(event(f"public.table_{number}", 1, 2) for number in range(50)))
        await until(lambda: rounds)
    (deletes,) = rounds
    assert deletes.keys == {"menu"}
    assert len(deletes.patterns) == 2


async def test_a_cache_without_patterns_is_cleared(settings: Settings, tmp_path: Path) -> None:
    settings.CACHES = {
        "default": settings.CACHES["default"],
        "fast": settings.CACHES["fast"],
        "pages": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
            "LOCATION": tmp_path,
        },
    }
    settings.PGNUDGE = {"INVALIDATE": {"*": {"keys": "*", "cache": "pages"}}, "RESYNC": "clear"}
    django_caches["pages"].set("page", 1)
    async with running() as (_, feed):
        feed.say("public.anything")
        await until(lambda: django_caches["pages"].get("page") is None)
