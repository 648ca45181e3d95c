"""The fixtures for pytest."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_pgnudge.testing.fake import NudgeFake, faked
from django_pgnudge.testing.feed import NudgeFeed


@pytest.fixture
def nudge_fake() -> Iterator[NudgeFake]:
    """A lease without a daemon; report changes with ``changed`` and ``resync``."""
    with faked() as fake:
        yield fake


@pytest.fixture
def nudge_feed(transactional_db: None) -> Iterator[NudgeFeed]:
    """A running daemon on the test database; its server needs ``wal_level = logical``."""
    with NudgeFeed() as feed:
        yield feed
