"""Whatever views read, and however: a fragment without ``on`` shows what is true, and ends with
what was read only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_pgnudge.reader.state import reader_state
from tests.reader.test_observed_property import (
    ABOVE,
    BASES,
    WAYS,
    World,
    read,
    read_plain,
    tell,
    write,
)  # fmt: skip
from tests.templatetags.observed_site import Site, execute

if TYPE_CHECKING:
    from django_pgnudge.testing import NudgeFake

pytestmark = [
    pytest.mark.usefixtures("real_sessions", "no_connections_closed", "takes_transcripts"),
    pytest.mark.slow,
]

_numbers = itertools.count()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(data=st.data())
def test_what_is_shown_is_true_and_ends_with_what_was_read_only(
    nudge_fake: NudgeFake, data: st.DataObject
) -> None:
    draw: Callable[..., Any] = data.draw
    # EXPLAIN does not run functions, and a thread of its own does not know its request.
    is_seen = draw(st.booleans())
    above = ABOVE[:2] if is_seen else ABOVE
    ways = [way for way in WAYS if way != "thread"] if is_seen else WAYS
    world = World(f"shown_{next(_numbers)}")
    execute(f"CREATE SCHEMA {world.name}")
    try:
        for _ in range(draw(st.integers(2, 4))):
            world.add(draw(st.sampled_from(BASES)), None)
        for _ in range(draw(st.integers(0, 4))):
            world.add(draw(st.sampled_from(above)), draw(st.sampled_from(world.relations)))
        nudge_fake.resync()
        some = st.tuples(st.sampled_from(world.relations), st.sampled_from(ways))
        # Of a request that seems to have read nothing, nothing is kept.
        steps = [(world.relations[0], "plain"), *draw(st.lists(some, min_size=1, max_size=4))]
        tables = frozenset().union(*(relation.tables for relation, _ in steps))
        site = Site(lambda: {"text": str([read(world, relation, way) for relation, way in steps])})
        for _ in range(4):  # also the values inside have to be learned
            site.get()
        assert site.is_kept() or not is_seen
        registry = reader_state("default").tables.registry
        for number in range(draw(st.integers(1, 5))):
            table = draw(st.sampled_from(world.writable))
            write(table, number, draw(st.sampled_from(("insert", "update", "delete", "truncate"))))
            tell(nudge_fake, table)
            before = site.renderings
            assert site.get() == str([read_plain(world, relation) for relation, _ in steps])
            if is_seen and tables.isdisjoint(
                {*registry.lineage(table), *registry.descendants(table)}
            ):
                assert site.renderings == before
            for _ in range(4):
                site.get()
            assert site.is_kept() or not is_seen
    finally:
        execute(f"DROP SCHEMA {world.name} CASCADE")
