"""The Python of the documentation is run, its rules included."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
import types
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from django.db import models
from django.db.migrations.state import ModelState, ProjectState
from django.dispatch import Signal
from django.template import Engine
from django.test import override_settings

import django_pgnudge
from django_pgnudge import Batch, Event, Resync, WalFeed, fragment, nudged, page, signals, site
from django_pgnudge.conf import conf
from django_pgnudge.conf.values import import_callable
from django_pgnudge.daemon.resync import Resyncer
from django_pgnudge.daemon.rule_callables import RuleCallables
from django_pgnudge.operations import (
    AddToPublication,
    CreatePublication,
    PublicationOperation,
    RemoveFromPublication,
)
from django_pgnudge.reader.decorator import NudgedFunction
from django_pgnudge.reader.scope import scope_of
from django_pgnudge.registry import Registry
from django_pgnudge.rules import RuleSet, load_rules
from django_pgnudge.rules.keyspecs import (
    Fixed,
    Fragment,
    Function,
    Pattern,
    Template,
    parse_key,
    parse_keys,
)
from django_pgnudge.rules.parsing import _RULE_KEYS
from django_pgnudge.rules.registration import sandbox
from django_pgnudge.templatetags.nudged import NudgedNode
from django_pgnudge.testing import faked
from tests.doc_pages import (
    PAGES,
    Block,
    blocks,
    code_in,
    column,
    first_code,
    python_blocks,
    tables,
    values,
)

_LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
MOVES = ("cache_page", "cache", "middleware", "cachalot", "cacheops")
"""What tests/contrib moves from, by the settings of the page."""
_REDIS = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://x"},
    "fast": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://y"},
}


@pytest.fixture(autouse=True)
def no_rules_of_others() -> Iterator[None]:
    with sandbox(), override_settings(CACHES=_REDIS, PGNUDGE={}):
        yield


@pytest.fixture
def nudge_fake(no_rules_of_others: None) -> Iterator[Any]:
    with override_settings(CACHES={"default": {"BACKEND": _LOCMEM}}):
        with faked("default") as fake:
            yield fake


def shop_models() -> Any:
    def table(name: str, /, **fields: Any) -> ModelState:
        key = ("id", models.BigAutoField(primary_key=True))
        return ModelState("shop", name, [key, *fields.items()])

    state = ProjectState()
    state.add_model(table("Category", name=models.TextField()))
    categories = models.ManyToManyField("shop.Category")
    state.add_model(table("Product", name=models.TextField(), categories=categories))
    state.add_model(table("Order"))
    state.add_model(table("Stock"))
    return state.apps


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The app ``shop`` of the pages, with the ``cachekeys.py`` that rules.md shows."""
    apps = shop_models()
    package, module = types.ModuleType("shop"), types.ModuleType("shop.models")
    package.__path__ = []
    for model in apps.get_models():
        setattr(module, model.__name__, model)
    monkeypatch.setitem(sys.modules, "shop", package)
    monkeypatch.setitem(sys.modules, "shop.models", module)
    return apps


@pytest.fixture
def cachekeys(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = python_blocks("module shop.cachekeys")
    module = types.ModuleType("shop.cachekeys")
    vars(module).update(block.run())
    monkeypatch.setitem(sys.modules, "shop.cachekeys", module)


@pytest.mark.parametrize("block", python_blocks(), ids=str)
def test_python_on_the_pages_compiles(block: Block) -> None:
    compile(block.code, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_fence_and_every_mark_belongs_to_a_block() -> None:
    for path in PAGES:
        lines = path.read_text(encoding="utf-8").splitlines()
        own = [block for block in blocks() if block.page == path.name]
        assert sum(line.startswith("```") for line in lines) == 2 * len(own), path.name
        marked = sum(bool(re.match(r"<!-- test: ", line)) for line in lines)
        assert marked == sum(bool(block.mark) for block in own), path.name


def test_every_mark_on_the_pages_is_one_that_a_test_knows() -> None:
    known = {
        "settings",
        "run",
        "nudged",
        "module shop.cachekeys",
        "migration",
        "emit",
        "feed",
        "scope",
        *(f"moving {what}" for what in MOVES),
        "",
    }
    assert {block.mark for block in blocks()} == known


@pytest.mark.parametrize("block", python_blocks("settings"), ids=str)
@pytest.mark.usefixtures("cachekeys")
def test_documented_settings_have_no_problem_and_their_rules_load(block: Block, shop: Any) -> None:
    found = {name: value for name, value in block.run().items() if name.isupper()}
    installed = found.pop("INSTALLED_APPS", ["django_pgnudge"])
    assert "django_pgnudge" in installed
    with override_settings(**found):
        assert conf.problems() == []
        rules = load_rules(Registry(apps=shop))
    labels = found.get("PGNUDGE", {}).get("INVALIDATE", {})
    assert {rule.where for rule in rules.rules} >= {
        f'PGNUDGE["INVALIDATE"][{label!r}]' for label in labels
    }


@pytest.mark.parametrize("block", python_blocks("run"), ids=str)
def test_documented_modules_run(block: Block, shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in signals.__all__:
        monkeypatch.setattr(signals, name, Signal())
    block.run()


@pytest.mark.parametrize("block", python_blocks("nudged"), ids=str)
def test_documented_nudged_values_can_be_read(block: Block, shop: Any, nudge_fake: Any) -> None:
    names = block.run()
    product = shop.get_model("shop", "Product")
    nudge_fake.tables.dependencies([product, "legacy.price_list", nudged.row(product, 7)])
    for each in names.values():
        if isinstance(each, NudgedFunction):
            assert callable(each.__wrapped__)


def test_the_documented_fragment_is_understood() -> None:
    (block,) = [block for block in blocks() if block.language == "django"]
    engine = Engine(libraries={"nudged": "django_pgnudge.templatetags.nudged"})
    nodes = engine.from_string(block.code).nodelist.get_nodes_by_type(NudgedNode)
    assert len(nodes) == 3


def test_what_nudge_fake_is_documented_to_do_it_does(nudge_fake: Any) -> None:
    (block,) = [block for block in blocks() if "def test_the_menu_follows" in block.code]
    names = block.run(menu=lambda language: [], Product="public.shop_product")
    names["test_the_menu_follows_the_products"](nudge_fake)


def test_the_documented_scope_names_the_schemas_of_a_tenant() -> None:
    (block,) = python_blocks("scope")
    names = block.run()
    with override_settings(PGNUDGE={"NUDGED": {"SCOPE": names["scope"]}}):
        assert conf.problems() == []
        assert scope_of("default") is None
        names["tenant"].set("acme")
        assert scope_of("default") == ("acme", "public")


def test_the_documented_function_for_resync_takes_what_it_is_called_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (block,) = [block for block in python_blocks("run") if block.page == "settings.md"]
    module = types.ModuleType("documented_resync")
    cleared: list[Any] = []
    names = block.run()
    names["caches"] = {"default": types.SimpleNamespace(delete_many=cleared.append)}
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, "documented_resync", module)
    with override_settings(PGNUDGE={"RESYNC": "documented_resync.clear_pages"}):
        assert conf.problems() == []
        rules = load_rules(Registry())
        assert Resyncer("default", rules, RuleCallables(rules)).is_call()
        import_callable(conf.RESYNC)(reason="connected", using="default")
    assert cleared == [["products", "orders"]]


def test_documented_receivers_take_what_is_sent(
    shop: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in signals.__all__:
        monkeypatch.setattr(signals, name, Signal())
    (block,) = [block for block in python_blocks("run") if block.page == "signals.md"]
    _receivers = block.run()  # signals keep weak references
    product = shop.get_model("shop", "Product")
    event = Event("public.shop_product", 0.0, 1, frozenset({(7,)}))
    signals.send_changes(Batch((event,)), [(product, event)], "default")
    signals.send_resynced("failsafe", "default")
    assert capsys.readouterr().out.splitlines() == [
        "moved: public.shop_product",
        "changed: [(7,)]",
        "read everything again: failsafe",
    ]


def test_the_documented_feed_loop_prints_both_kinds_of_items(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Feed(WalFeed):
        async def __aenter__(self) -> Any:
            return self._items()

        async def _items(self) -> AsyncIterator[Any]:
            yield Resync("connected")
            yield Batch((Event("public.shop_product", 0.0, 2, None),))

    monkeypatch.setattr(django_pgnudge, "WalFeed", Feed)
    (block,) = python_blocks("feed")
    asyncio.run(block.run()["main"]())
    assert capsys.readouterr().out.splitlines() == [
        "read everything again: connected",
        "public.shop_product 2 None",
    ]


def test_the_documented_migration_publishes_models_that_resolve(shop: Any) -> None:
    registry = Registry(apps=shop)

    def tables_of(operation: PublicationOperation) -> set[str]:
        labels = [label if "." in label else f"shop.{label}" for label in operation.models]
        models = [registry.model_of(label) for label in labels]
        return {model._meta.db_table for model in models if model is not None}

    first, second = python_blocks("migration")
    (create,) = first.run()["Migration"].operations
    assert isinstance(create, CreatePublication)
    assert tables_of(create) == {
        "shop_product",
        "shop_product_categories",
        "shop_category",
        "shop_order",
    }
    add, remove = second.run()["Migration"].operations
    assert isinstance(add, AddToPublication)
    assert isinstance(remove, RemoveFromPublication)
    assert tables_of(add) == {"shop_category"}
    assert tables_of(remove) == {"shop_order"}


def test_the_documented_emit_is_called_inside_the_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[Any] = []

    class Atomic:
        def __enter__(self) -> None:
            calls.append("begin")

        def __exit__(self, *exc: object) -> None:
            calls.append("commit")

    (block,) = python_blocks("emit")
    names = block.run(load=calls.append)
    monkeypatch.setattr(names["transaction"], "atomic", Atomic)
    monkeypatch.setattr(names["django_pgnudge"], "emit", calls.append, raising=False)
    names["import_prices"]("rows")
    assert calls == ["begin", "rows", "prices", "commit"]


def _event(payload: str, keys: str) -> Event:
    known = None if keys == "any row" else frozenset((int(key),) for key in keys.split(", "))
    return Event(payload, 0.0, 1, known)


def _deletes(rules: RuleSet, event: Event) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for ref, deletes in rules.deletes(event).items():
        where = ref.alias if ref.version is None else f"{ref.alias} version {ref.version}"
        named = found.setdefault(where, set())
        named |= deletes.keys | {f"pattern {glob}" for glob in deletes.patterns}
    return found


def _documented_deletes(cell: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for part in cell.split(";") if cell != "nothing" else ():
        where, _, what = part.partition(":")
        named = found.setdefault(where.strip().replace("`", ""), set())
        named |= {entry.strip().replace("`", "") for entry in what.split(",")}
    return found


@pytest.mark.parametrize(
    "row", tables("rules.md", "Worked examples")[0], ids=lambda row: f"{row[0]} {row[1]}"
)
@pytest.mark.usefixtures("cachekeys")
def test_worked_examples_of_rules_delete_what_the_page_says(row: list[str], shop: Any) -> None:
    settings = next(block for block in python_blocks("settings") if block.page == "rules.md")
    with override_settings(PGNUDGE=settings.run()["PGNUDGE"]):
        rules = load_rules(Registry(apps=shop))
        assert _deletes(rules, _event(first_code(row[0]), row[1])) == _documented_deletes(row[2])


@pytest.mark.usefixtures("cachekeys")
def test_the_shapes_of_keys_are_read_as_the_page_says() -> None:
    kinds = {
        "that key": Fixed,
        "a template": Template,
        "a pattern": Pattern,
        "the dotted path of a callable": Function,
        "that key, taken literally": Fixed,
    }
    rows = tables("rules.md", "What a key is")[0]
    assert len(rows) == len(kinds) + 2  # the callable, and what the next test reads
    for entry, meaning in rows[:-1]:
        kind = next((kinds[start] for start in kinds if meaning.startswith(start)), Function)
        shown: Any = len if entry == "a callable" else values(entry)
        assert isinstance(parse_key(shown), kind), entry


@pytest.mark.parametrize(
    "row", tables("rules.md", "What Django caches by itself")[0], ids=lambda row: row[0]
)
def test_what_django_caches_is_named_as_the_page_says(row: list[str]) -> None:
    names = {"fragment": fragment, "page": page, "site": site}
    (found,) = {type(spec) for spec in parse_keys(eval(first_code(row[0]), names))}
    expected = Pattern if "all " in row[1] else Fragment if "each changed row" in row[1] else Fixed
    assert found is expected


def test_documented_template_fields_are_those_that_parse() -> None:
    for cell, _ in tables("rules.md", "Templates")[0]:
        for field in code_in(cell):
            assert isinstance(parse_key(f"product:{field}"), Template), field


def test_parts_of_a_rule_are_documented() -> None:
    assert tuple(column("rules.md", "In the settings")) == _RULE_KEYS
