"""Fragments without ``on`` in these tests take transcripts from the first request on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from django_pgnudge.reader import transcript

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def takes_transcripts() -> Iterator[None]:
    transcript.taking.is_on = True
    yield
    transcript.taking.is_on = False
    assert not transcript.taking.open()
