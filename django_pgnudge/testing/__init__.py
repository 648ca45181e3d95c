"""Helpers for the tests of projects that use the package.

Load them with ``pytest_plugins = ["django_pgnudge.testing"]`` in the project's conftest, or use a
mixin of `cases` with ``unittest``.

``nudge_fake`` writes a lease to the caches of ``PGNUDGE["NUDGED"]`` without a daemon, and a test
reports changes to it. ``nudge_feed`` runs the real daemon with the real feed in a thread of the
test process. It sees only committed changes, so the test must not run inside a transaction. With
both, a test's keys are kept `apart` from those of the project.
"""

from __future__ import annotations

from importlib.util import find_spec

from django_pgnudge.testing.cases import NudgeFakeMixin, NudgeFeedMixin
from django_pgnudge.testing.fake import NudgeFake, faked
from django_pgnudge.testing.feed import NudgeFeed

__all__ = ["NudgeFake", "NudgeFakeMixin", "NudgeFeed", "NudgeFeedMixin", "faked"]

if find_spec("pytest") is not None:
    from django_pgnudge.testing.fixtures import nudge_fake, nudge_feed  # noqa: F401 - for pytest
