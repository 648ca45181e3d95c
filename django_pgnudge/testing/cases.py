"""Mixins for ``unittest``: put one before Django's test class.

::

    class MenuTests(NudgeFakeMixin, TestCase): ...


    class SiteTests(NudgeFeedMixin, TransactionTestCase): ...
"""

from __future__ import annotations

import unittest

from django.test import TestCase

from django_pgnudge.testing.fake import NudgeFake, faked
from django_pgnudge.testing.feed import NudgeFeed


class NudgeFakeMixin(unittest.TestCase):
    """Sets ``self.nudge_fake``, which is the same as the fixture."""

    nudge_fake: NudgeFake

    def setUp(self) -> None:
        super().setUp()
        self.nudge_fake = self.enterContext(faked())


class NudgeFeedMixin(unittest.TestCase):
    """Sets ``self.nudge_feed``, which is the same as the fixture; for ``TransactionTestCase``."""

    nudge_feed: NudgeFeed

    def setUp(self) -> None:
        if isinstance(self, TestCase):
            raise TypeError(
                f"{type(self).__name__}: the daemon sees only committed changes, and TestCase never"
                " commits. Use TransactionTestCase, or NudgeFakeMixin."
            )
        super().setUp()
        self.nudge_feed = self.enterContext(NudgeFeed())
