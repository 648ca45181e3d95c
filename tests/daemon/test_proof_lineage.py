"""What was above a table when its map was last accepted is concerned too, whoever has read the
catalogs since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from servers.process import wait_until

from tests.daemon.leases import cleared_daemon, gone, plant, proven_again
from tests.fix_nudged import names_of

if TYPE_CHECKING:
    from tests.fix_servers import Database

LEASE = 3600.0
"""Seconds; long enough that nothing is proven unless it is asked for."""


@pytest.fixture
def site(values_in_redis: None, settings: Any, django_postgres: Database) -> Database:
    settings.PGNUDGE = {
        "NUDGED": {"CACHES": ["default"], "LEASE": LEASE},
        "INVALIDATE": {"public.a": ["list of a"]},
    }
    django_postgres.execute(
        "CREATE TABLE a (id int PRIMARY KEY) PARTITION BY LIST (id)",
        "CREATE TABLE leaf PARTITION OF a FOR VALUES IN (1)",
        "INSERT INTO a VALUES (1)",
    )
    return django_postgres


def test_a_partition_that_left_before_the_catalogs_were_read_for_another_reason(site):
    tokens = [names_of().table("public.a"), names_of().bulk("public.a")]
    with cleared_daemon() as running:
        registry = running.daemon.registry
        keeper = running.daemon.keepers["default"]
        keeper.kick()
        proven_again(running)
        plant(*tokens, "list of a")
        site.execute("ALTER TABLE a DETACH PARTITION leaf")
        site.execute("CREATE TABLE newborn (id int PRIMARY KEY)", "INSERT INTO newborn VALUES (1)")
        wait_until(lambda: registry.exists("public.newborn"), "a look at the catalogs")
        keeper.kick()
        proven_again(running)
        assert gone(*tokens)
        assert gone("list of a")
