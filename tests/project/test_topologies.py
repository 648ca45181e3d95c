"""Each cache that a site may have: a daemon, a writer, readers, and a failover where there can be
one. `python -m benchmarks topologies` is the same for longer, and makes the table of the docs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.topologies.command import complaints, measure
from benchmarks.topologies.shapes import shapes
from tests.fix_servers import missing

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers.postgres import Postgres

    from benchmarks.topologies.shapes import Shape

pytestmark = pytest.mark.slow

HOW_TO_GET = {"Redis": "redis", "memcached": "memcached"}


@pytest.mark.parametrize("shape", shapes(), ids=lambda shape: shape.name)
def test_rules_and_nudged_values_hold(
    shape: Shape, postgres_factory: Callable[..., Postgres]
) -> None:
    if shape.lacks:
        pytest.skip(missing(HOW_TO_GET[shape.lacks]))
    found = measure(shape, postgres_factory(), 2.0)
    assert complaints(shape, found) == [], found["log"][-2000:]
