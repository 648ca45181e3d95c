"""contrib.cacheops in the modes that lay out its keys in another way."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.compat.conftest import made_site
from tests.contrib.conftest import is_seen, stays

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("cacheops") is None, reason="django-cacheops is not installed"),
]


@pytest.mark.parametrize("mode", ["TEST_INSIDEOUT", "TEST_PREFIX"])
def test_what_is_cached_ends(
    mode: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(mode, "runnudge")
    with made_site(request, "tests.contrib.cacheops_site", tmp_path) as site:
        if mode == "TEST_PREFIX":
            # runnudge serves no tenant.
            site.step("serve", "acme")
            site.step("read", "products")
            assert any(key.startswith("acme:conj:") for key in site.step("conditions"))
        stays(site, "product 1", "UPDATE shop_product SET name = name || '!' WHERE id = 2")
        is_seen(site, "product 1", "UPDATE shop_product SET name = name || '!' WHERE id = 1")
        is_seen(site, "reviews of 1", "UPDATE shop_review SET product_id = 2 WHERE stars = 2")
        is_seen(site, "products", "TRUNCATE shop_product CASCADE")
