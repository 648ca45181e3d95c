"""For the tests of projects that use the package.

Not loaded by itself: ``pytest_plugins = ["django_pgnudge.testing"]`` in the project's conftest, or
a mixin of `cases` for ``unittest``.

``nudge_fake`` keeps a lease in the caches of ``PGNUDGE["NUDGED"]`` without a daemon, and lets a
test say what changed. ``nudge_feed`` runs the real daemon on the real feed in a thread of the test
process; it sees what is committed, so the test must not run inside a transaction. Under both, all
caches are kept `apart` from those of the project.
"""

from __future__ import annotations

from importlib.util import find_spec

from django_pgnudge.testing.cases import NudgeFakeMixin, NudgeFeedMixin
from django_pgnudge.testing.fake import NudgeFake, faked
from django_pgnudge.testing.feed import NudgeFeed

__all__ = ["NudgeFake", "NudgeFakeMixin", "NudgeFeed", "NudgeFeedMixin", "faked"]

if find_spec("pytest") is not None:
    from django_pgnudge.testing.fixtures import nudge_fake, nudge_feed  # noqa: F401 - to be found
