"""names: fragment(), page() and site() end exactly what Django cached, on each backend."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from django.core.cache import caches as django_caches
from django.core.cache.utils import make_template_fragment_key
from django.http import HttpRequest, HttpResponse
from django.middleware.cache import FetchFromCacheMiddleware, UpdateCacheMiddleware
from django.template import Context, Engine
from django.test import RequestFactory, override_settings
from django.views.decorators.cache import cache_page
from django.views.decorators.vary import vary_on_headers

from django_pgnudge import caches, fragment, invalidates, page, site
from django_pgnudge.errors import RuleError
from django_pgnudge.events import Event
from django_pgnudge.registry import Registry
from django_pgnudge.rules import load_rules
from django_pgnudge.rules.keyspecs import Fixed, parse_key
from django_pgnudge.rules.registration import sandbox
from tests.shop import models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django.fixtures import Settings

PRODUCT = "public.shop_product"
WRONG: Any = 1
ENGINE = Engine(builtins=["django.templatetags.cache"])


@pytest.fixture(autouse=True)
def _only_the_tests_own_rules() -> Iterator[None]:
    with sandbox():
        yield


def change(*pks: int, invalidate: Any = (), **pgnudge: Any) -> None:
    """What runnudge does when these rows of shop.Product change; without any, any rows."""
    keys = frozenset((pk,) for pk in pks) or None
    rules = {"shop.Product": invalidate} if invalidate else {}
    with override_settings(PGNUDGE={"INVALIDATE": rules, **pgnudge}):
        for ref, deletes in load_rules(Registry()).deletes(Event(PRODUCT, 1.0, 1, keys)).items():
            caches.delete(ref, deletes)


def render(text: str, **context: Any) -> str:
    source = f"{{% cache 600 {text} %}}{{{{ shown }}}}{{% endcache %}}"
    return ENGINE.from_string(source).render(Context(context))


def shown(text: str, now: str, **context: Any) -> str:
    """What the fragment shows, where ``now`` is what it would show if it were made."""
    return render(text, shown=now, **context)


OPTIONS = [
    {},
    {"KEY_PREFIX": "a[b]*"},
    {"VERSION": 7},
    {"KEY_FUNCTION": "tests.test_names.backwards"},
]


def backwards(key: str, prefix: str, version: int) -> str:
    return f"{version}/{key}/{prefix}"


@pytest.fixture(params=OPTIONS, ids=["plain", "prefix", "version", "function"])
def cache(request: pytest.FixtureRequest, enumerable: Any, settings: Settings) -> None:
    settings.CACHES = {"default": {**enumerable(), **request.param}}
    django_caches["default"].clear()


def test_a_fragment_is_ended_by_its_name_and_no_other(cache: None) -> None:
    for name in ("sidebar", "sidebars"):
        assert shown(name, "old") == "old"
    change(invalidate=fragment("sidebar"))
    assert (shown("sidebar", "new"), shown("sidebars", "new")) == ("new", "old")


def test_a_fragment_is_ended_by_what_it_varies_on(cache: None) -> None:
    shown("sidebar lang 7", "old", lang="en")
    shown("sidebar lang 7", "old", lang="de")
    change(invalidate=fragment("sidebar", "en", 7))
    assert shown("sidebar lang 7", "new", lang="en") == "new"
    assert shown("sidebar lang 7", "new", lang="de") == "old"


def test_a_fragment_is_ended_by_its_key_on_every_backend(each_cache: str) -> None:
    """Also where there are no patterns: memcached, files."""
    shown("sidebar lang", "old", lang="en")
    shown("sidebar lang", "old", lang="de")
    change(invalidate=fragment("sidebar", "en"))
    assert [shown("sidebar lang", "new", lang=lang) for lang in ("en", "de")] == ["new", "old"]


def test_a_star_ends_all_fragments_of_a_name(cache: None) -> None:
    for lang in ("en", "de"):
        shown("sidebar lang", "old", lang=lang)
    shown("sidebars lang", "old", lang="en")
    change(invalidate=fragment("sidebar", "*"))
    assert [shown("sidebar lang", "new", lang=lang) for lang in ("en", "de")] == ["new", "new"]
    assert shown("sidebars lang", "new", lang="en") == "old"


def test_a_fragment_of_a_row_is_ended_by_its_row_and_by_a_bulk_change(cache: None) -> None:
    for pk in (1, 2):
        shown("product pk lang", "old", pk=pk, lang="en")
    rule = fragment("product", "{pk}", "en")
    change(2, invalidate=rule)
    assert [shown("product pk lang", "new", pk=pk, lang="en") for pk in (1, 2)] == ["old", "new"]
    change(invalidate=rule)
    assert shown("product pk lang", "newer", pk=1, lang="en") == "newer"
    assert shown("product pk lang", "newer", pk=2, lang="en") == "newer"


def test_a_fragment_may_vary_on_the_names_of_the_table(cache: None) -> None:
    shown("list table", "old", table="shop_product")
    change(1, invalidate=fragment("list", "{table}"))
    assert shown("list table", "new", table="shop_product") == "new"


class Site:
    """A view behind something that caches, with what it shows as its state."""

    def __init__(self, wrap: Callable[[Any], Any]) -> None:
        self.now = "old"
        self._view = wrap(vary_on_headers("X-Kind")(self._show))

    def _show(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(self.now)

    def get(self, path: str = "/", kind: str = "a", method: str = "get") -> str:
        request = getattr(RequestFactory(), method)(path, headers={"X-Kind": kind})
        return str(self._view(request).content.decode())


def middleware(view: Any) -> Any:
    return UpdateCacheMiddleware(FetchFromCacheMiddleware(view))


PAGES = [
    pytest.param(cache_page(600), page(), id="cache_page"),
    pytest.param(cache_page(600, key_prefix="p.*"), page(prefix="p.*"), id="prefix"),
    pytest.param(middleware, site(), id="site"),
]


@pytest.mark.parametrize(("wrap", "rule"), PAGES)
@pytest.mark.parametrize("i18n", [True, False])
def test_pages_end_for_every_url_and_header(
    wrap: Any, rule: Any, i18n: bool, cache: None, settings: Settings
) -> None:
    settings.USE_I18N = settings.USE_TZ = i18n
    if wrap is middleware:
        settings.CACHE_MIDDLEWARE_KEY_PREFIX = "whole"
    pages = Site(wrap)
    asked = [("/", "a"), ("/", "b"), ("/x?y=1", "a")]
    assert [pages.get(*each) for each in asked] == ["old"] * 3
    pages.now = "new"
    assert [pages.get(*each) for each in asked] == ["old"] * 3
    change(invalidate=rule)
    # The second is found by the headers that the first stores again.
    assert [pages.get(*each) for each in asked] == ["new"] * 3


def test_pages_of_another_prefix_and_other_keys_stay(cache: None) -> None:
    sites = [Site(cache_page(600, key_prefix=prefix)) for prefix in ("", "a", "ab", "b")]
    for each in sites:
        each.get()
        each.now = "new"
    shown("sidebar", "old")
    change(invalidate=page(prefix="a"))
    assert [each.get() for each in sites] == ["old", "new", "old", "old"]
    change(invalidate=page())
    assert [each.get() for each in sites] == ["new", "new", "old", "old"]
    assert shown("sidebar", "new") == "old"


def test_each_is_looked_for_where_django_keeps_it(settings: Settings) -> None:
    memory = "django.core.cache.backends.locmem.LocMemCache"
    settings.CACHES = {
        alias: {"BACKEND": memory, "LOCATION": f"names {alias}"}
        for alias in ("default", "template_fragments", "pages", "own")
    }
    settings.CACHE_MIDDLEWARE_ALIAS = "pages"
    entries = ["products", fragment("sidebar"), page(), site()]
    with override_settings(PGNUDGE={"INVALIDATE": {"shop.Product": entries}}):
        found = load_rules(Registry()).deletes(Event(PRODUCT, 1.0, 1))
    assert {ref.alias: bool(deletes.keys) for ref, deletes in found.items()} == {
        "default": True,
        "template_fragments": True,
        "pages": False,
    }
    with override_settings(
        PGNUDGE={"INVALIDATE": {"shop.Product": {"keys": entries, "cache": "own"}}}
    ):
        assert {ref.alias for ref in load_rules(Registry()).cache_refs()} == {"own"}
    # And so do the caches that Django itself chooses.
    shown("sidebar", "old")
    whole = Site(middleware)
    whole.get()
    whole.now = "new"
    change(invalidate=entries)
    assert (shown("sidebar", "new"), whole.get()) == ("new", "new")


def test_rules_in_code_take_them(cache: None) -> None:
    invalidates(models.Product, "products", fragment("sidebar"), page())
    shown("sidebar", "old")
    change()
    assert shown("sidebar", "new") == "new"


def test_djangos_own_function_makes_a_key_and_no_path() -> None:
    keys = [make_template_fragment_key("sidebar", vary) for vary in (None, [1], ["x", "y"])]
    assert any(key.rpartition(".")[2][0].isalpha() for key in keys)
    assert [parse_key(key) for key in keys] == [Fixed(key) for key in keys]
    assert not any(spec.doubt for key in keys if isinstance(spec := parse_key(key), Fixed))
    invalidates(models.Product, *keys)


@pytest.mark.parametrize("entry", ["x*", "{nothing}"])
def test_what_a_fragment_cannot_vary_on_is_refused(entry: str) -> None:
    with pytest.raises(RuleError, match=r"E008|digest|field"):
        invalidates(models.Product, fragment("sidebar", entry))


@pytest.mark.parametrize(
    "wrong", [lambda: fragment(""), lambda: page(prefix=WRONG), lambda: site(prefix=WRONG)]
)
def test_what_names_nothing_is_refused_where_it_is_written(wrong: Any) -> None:
    with pytest.raises(TypeError):
        wrong()


def test_a_settings_module_may_import_them() -> None:
    code = (
        "from django_pgnudge import fragment, own, page, site;"
        "print([fragment('s', 1), page(), site(), own('prices')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[fragment('s', 1), page(prefix=''), site(), 'prices']"
