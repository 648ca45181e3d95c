"""A rule for every table: pages and fragments that Django caches are right after any write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.compat.conftest import made_site
from tests.contrib.conftest import is_seen, stays

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.compat.conftest import Site

pytestmark = pytest.mark.slow

PATHS = {
    "cache_page": ["/cache_page/", "/cache_page/prefix/"],
    "cache": ["/cache/"],
    "middleware": ["/middleware/"],
}


@pytest.fixture(scope="module", params=PATHS)
def moved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Site, list[str]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_MOVE", f"moving {request.param}")
        logs = tmp_path_factory.mktemp(request.param)
        with made_site(request, "tests.contrib.pages_site", logs) as site:
            yield site, PATHS[request.param]


def test_the_documented_settings_make_a_site_right_after_any_write(
    moved: tuple[Site, list[str]],
) -> None:
    site, paths = moved
    assert site.step("problems") == []
    for path in paths:
        is_seen(site, path, "UPDATE shop_product SET name = name || '!'")
        is_seen(
            site,
            path,
            "INSERT INTO plain_table VALUES (1) ON CONFLICT (id) DO NOTHING;"
            " INSERT INTO shop_product (name, price) VALUES ('more', 0)",
        )
        stays(site, path, "CREATE TEMP TABLE mine AS SELECT 1")
