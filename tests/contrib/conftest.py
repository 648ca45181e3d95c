"""A site for each file, as for third-party projects, and what is asked of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from servers.process import wait_until

from tests.compat.conftest import site

if TYPE_CHECKING:
    from tests.compat.conftest import Site

__all__ = ["heat", "is_seen", "outage", "restart", "site", "stays"]


def heat(site: Site, query: str, *given: Any) -> Any:
    """The rows of a query, once they come from the cache."""

    def is_hot() -> bool:
        return bool(site.step("read", query, *given)[1] == 0)

    wait_until(is_hot, f"a hit of {query!r}", timeout=30)
    return site.step("read", query, *given)[0]


def is_seen(site: Site, query: str, *statements: str) -> None:
    """A cached query is right after SQL from elsewhere."""
    before = heat(site, query)
    site.sql(*statements)
    assert site.step("settled", 20), site.said("runnudge")[-3000:]
    now = site.step("truth", query)
    assert now != before, "the statement changes what is cached"
    assert site.step("read", query)[0] == now


def stays(site: Site, query: str, *statements: str) -> None:
    """A cached query comes from the cache also after SQL that does not concern it.

    What came before may be invalidated once more meanwhile, so it may take some tries.
    """

    def stayed() -> bool:
        heat(site, query)
        site.sql(*statements)
        assert site.step("settled", 20), site.said("runnudge")[-3000:]
        return bool(site.step("read", query)[1] == 0)

    wait_until(stayed, f"{query!r} to stay", timeout=40)


def outage(site: Site, query: str, *statements: str) -> None:
    """A cached query is right after SQL during an outage of Redis, which comes back as it was."""
    before = heat(site, query)
    site.redis.save()
    site.redis.kill()
    site.sql(*statements)
    app = site.package.replace("tests.contrib.", "").removesuffix("_site")
    failed, back = f"contrib.{app} failed", f"contrib.{app}' is back"
    if app == "cachalot":
        failed = "of django-cachalot failed"
    site.wait_for(failed)
    site.redis.start()
    site.wait_for(back)
    now = site.step("truth", query)
    assert now != before
    assert site.step("read", query)[0] == now


def restart(site: Site, query: str, *statements: str) -> None:
    """A cached query is right after a Redis that has seen a change is put back to before it."""
    before = heat(site, query)
    site.redis.save()
    site.sql(*statements)
    assert site.step("settled", 20)
    site.redis.kill()
    site.redis.start()
    app = site.package.replace("tests.contrib.", "").removesuffix("_site")
    site.wait_for(f"contrib.{app}' was restarted")
    now = site.step("truth", query)
    assert now != before
    assert site.step("read", query)[0] == now
