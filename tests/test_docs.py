"""The documentation is compared with the code, and what it shows as code is run."""

from __future__ import annotations

import ast
import asyncio
import configparser
import dataclasses
import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
import types
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.db import models
from django.db.migrations.state import ModelState, ProjectState
from django.dispatch import Signal
from django.test import override_settings

import django_pgnudge
from django_pgnudge import TLS, Batch, Event, Resync, WalFeed, errors, signals
from django_pgnudge.checks.ids import DOCS, IDS, anchor
from django_pgnudge.conf import CONNECTION_KEYS, DEFAULTS, conf
from django_pgnudge.confvalues import PLUGINS, RESYNCS, feed_keywords
from django_pgnudge.connection import _REFUSED
from django_pgnudge.decoding import DECODERS
from django_pgnudge.errors import PgNudgeError, ServerError
from django_pgnudge.events import ResyncReason
from django_pgnudge.keyspecs import Fixed, Function, Pattern, Template, parse_key
from django_pgnudge.mistakes import _ADVICE, explain
from django_pgnudge.operations import CreatePublication
from django_pgnudge.registration import sandbox
from django_pgnudge.registry import Registry
from django_pgnudge.ruleparse import _RULE_KEYS
from django_pgnudge.rules import RuleSet, load_rules

ROOT = Path(__file__).parent.parent
DOCS_DIR = ROOT / "docs"
PACKAGE = ROOT / "django_pgnudge"
PAGES = [ROOT / "README.md", *sorted(DOCS_DIR.glob("*.md"))]

_FENCE = re.compile(
    r"^(?:(?:% |<!-- )test: (?P<mark>[^\n]*?)(?: -->)?\n)?```(?P<language>\S*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_REDIS = {
    "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://x"},
    "fast": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://y"},
}


# Reading the pages.


@dataclass(frozen=True, slots=True)
class Block:
    page: str
    language: str
    mark: str
    code: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def run(self, **namespace: Any) -> dict[str, Any]:
        """Run it as a module; its line numbers are the page's."""
        names = {"__name__": "documented", **namespace}
        source = "\n" * self.line + self.code
        exec(compile(source, self.page, "exec"), names)
        return names


def text_of(page: str) -> str:
    return (DOCS_DIR / page).read_text(encoding="utf-8")


def blocks() -> list[Block]:
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start("code"))
            found.append(
                Block(path.name, match["language"], match["mark"] or "", match["code"], line)
            )
    return found


def python_blocks(mark: str | None = None) -> list[Block]:
    return [
        block
        for block in blocks()
        if block.language == "python" and (mark is None or block.mark == mark)
    ]


def tables(page: str, under: str | None = None) -> list[list[list[str]]]:
    """Every table of a page (below a heading, if one is given): rows of cells, without the head."""
    text = text_of(page)
    if under is not None:
        start = re.search(rf"^#+ {re.escape(under)}\n", text, re.MULTILINE)
        assert start, f"{page} has no heading {under!r}"
        text = text[start.end() :]
        end = re.search(r"^#", text, re.MULTILINE)
        text = text[: end.start()] if end else text
    found: list[list[list[str]]] = []
    rows: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows:
            found.append(rows[2:])
            rows = []
    return found


def code_in(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def first_code(cell: str) -> str:
    return code_in(cell)[0]


def column(page: str, under: str | None = None) -> list[str]:
    """The code in the first column of the first table."""
    return [first_code(row[0]) for row in tables(page, under)[0]]


def values(cell: str) -> Any:
    return ast.literal_eval(first_code(cell))


# A shop for the examples to run in.


@pytest.fixture(autouse=True)
def no_rules_of_others() -> Iterator[None]:
    with sandbox(), override_settings(CACHES=_REDIS, PGNUDGE={}):
        yield


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


# Code.


@pytest.mark.parametrize("block", python_blocks(), ids=str)
def test_python_on_the_pages_compiles(block: Block) -> None:
    compile(block.code, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_every_mark_on_the_pages_is_one_that_a_test_knows() -> None:
    known = {"settings", "run", "module shop.cachekeys", "migration", "emit", "feed", ""}
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
    assert {rule.where for rule in rules.rules} >= {
        f'PGNUDGE["INVALIDATE"][{label!r}]' for label in found["PGNUDGE"].get("INVALIDATE", {})
    }


@pytest.mark.parametrize("block", python_blocks("run"), ids=str)
def test_documented_modules_run(block: Block, shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in signals.__all__:
        monkeypatch.setattr(signals, name, Signal())
    block.run()


def test_documented_receivers_take_what_is_sent(
    shop: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in signals.__all__:
        monkeypatch.setattr(signals, name, Signal())
    (block,) = [block for block in python_blocks("run") if block.page == "signals.md"]
    _receivers = block.run()  # signals keep weak references
    product = shop.get_model("shop", "Product")
    event = Event("public.shop_product", 0.0, 1, frozenset({(7,)}))
    signals.send_changes(Batch((event,)), {product: event}, "default")
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
    (block,) = python_blocks("migration")
    (operation,) = block.run()["Migration"].operations
    assert isinstance(operation, CreatePublication)
    registry = Registry(apps=shop)
    labels = [label if "." in label else f"shop.{label}" for label in operation.models]
    tables_of = {model._meta.db_table for label in labels if (model := registry.model_of(label))}
    assert tables_of == {
        "shop_product",
        "shop_product_categories",
        "shop_category",
        "shop_order",
    }


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


# Rules.


def _event(payload: str, keys: str) -> Event:
    known = None if keys == "any row" else frozenset((int(key),) for key in keys.split(", "))
    return Event(payload, 0.0, 1, known)


def _kills(rules: RuleSet, event: Event) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for ref, kills in rules.kills(event).items():
        where = ref.alias if ref.version is None else f"{ref.alias} version {ref.version}"
        named = found.setdefault(where, set())
        named |= kills.keys | {f"pattern {glob}" for glob in kills.patterns}
    return found


def _documented_kills(cell: str) -> dict[str, set[str]]:
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
def test_worked_examples_of_rules_kill_what_the_page_says(row: list[str], shop: Any) -> None:
    settings = next(block for block in python_blocks("settings") if block.page == "rules.md")
    with override_settings(PGNUDGE=settings.run()["PGNUDGE"]):
        rules = load_rules(Registry(apps=shop))
        assert _kills(rules, _event(first_code(row[0]), row[1])) == _documented_kills(row[2])


@pytest.mark.usefixtures("cachekeys")
def test_the_shapes_of_keys_are_read_as_the_page_says() -> None:
    kinds = {
        "that key": Fixed,
        "a template": Template,
        "a pattern": Pattern,
        "identifiers joined by dots": Function,
        "that key, taken literally": Fixed,
    }
    rows = tables("rules.md", "What a key is")[0]
    assert len(rows) == len(kinds) + 1  # and the callable
    for entry, meaning in rows:
        kind = next((kinds[start] for start in kinds if meaning.startswith(start)), Function)
        shown: Any = len if entry == "a callable" else values(entry)
        assert isinstance(parse_key(shown), kind), entry


def test_documented_template_fields_are_those_that_parse() -> None:
    for cell, _ in tables("rules.md", "Templates")[0]:
        for field in code_in(cell):
            assert isinstance(parse_key(f"product:{field}"), Template), field


def test_parts_of_a_rule_are_documented() -> None:
    assert tuple(column("rules.md", "In the settings")) == _RULE_KEYS


# Settings.


def test_the_table_of_settings_is_the_code_s() -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return list(value)
        return dict(value) if hasattr(value, "keys") else value

    documented = {first_code(key): values(default) for key, default, _ in tables("settings.md")[0]}
    assert documented == {key: plain(value) for key, value in DEFAULTS.items()}
    assert list(documented) == list(DEFAULTS)


def test_every_setting_has_a_section() -> None:
    assert re.findall(r"^## (\w+)$", text_of("settings.md"), re.MULTILINE) == list(DEFAULTS)


def _list_below(page: str, sentence: str) -> set[str]:
    following = text_of(page).split(sentence, 1)[1].strip().split("\n\n", 1)[0]
    return set(code_in(following))


def test_parameters_of_connection_are_listed() -> None:
    assert _list_below("settings.md", "The names are libpq's:") == CONNECTION_KEYS


def test_keywords_of_feed_are_listed() -> None:
    assert _list_below("settings.md", "These may be set here:") == feed_keywords()


def test_refused_parameters_of_libpq_are_listed() -> None:
    line = next(
        line for line in text_of("settings.md").splitlines() if "is refused, not ignored" in line
    )
    assert set(code_in(line)) - {"gssencmode=require"} == set(_REFUSED)


def test_ways_to_resync_are_listed() -> None:
    rows = tables("settings.md", "RESYNC")[0]
    named = [values(row[0]) for row in rows if row[0].startswith("`")]
    assert tuple(named) == RESYNCS
    assert rows[-1][0] == "a dotted path"


def test_plugins_are_listed() -> None:
    first_line = text_of("settings.md").split("## PLUGIN\n", 1)[1].strip().splitlines()[0]
    assert [ast.literal_eval(code) for code in code_in(first_line)] == list(PLUGINS)
    assert column("how-it-works.md", "Output plugins") == list(DECODERS)


# Checks.


def test_every_check_has_its_anchor_title_and_no_other_is_documented() -> None:
    entries = re.findall(
        r"^\(([\w-]+)\)=\n### django_pgnudge\.(\w+)\n\n\*\*(.+?)\.\*\* \S",
        text_of("checks.md"),
        re.MULTILINE,
    )
    documented = {number: title for _, number, title in entries}
    assert documented == IDS
    assert list(documented) == list(IDS)
    for target, number, _ in entries:
        assert anchor(number) == f"{DOCS}#{target}"


def test_checks_lead_to_the_page_that_has_them() -> None:
    assert DOCS.rsplit("/", 1)[1] == "checks.html"


# WalFeed.


def _documented_defaults(page: str, under: str) -> dict[str, Any]:
    return {
        first_code(name): inspect.Parameter.empty if default == "required" else values(default)
        for name, default, _ in tables(page, under)[0]
    }


def test_the_constructor_of_walfeed_is_documented_with_every_default() -> None:
    parameters = inspect.signature(WalFeed).parameters
    documented = _documented_defaults("walfeed.md", "Constructor")
    assert documented == {name: parameter.default for name, parameter in parameters.items()}
    assert list(documented) == list(parameters)
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in parameters.values())


def test_the_fields_of_tls_are_documented_with_every_default() -> None:
    documented = _documented_defaults("walfeed.md", "TLS")
    fields = {field.name: field.default for field in dataclasses.fields(TLS)}
    assert documented == fields


def test_attributes_of_walfeed_exist() -> None:
    feed = WalFeed(user="nudge", database="app")
    shown = {name for name in vars(feed) if not name.startswith("_")}
    assert set(column("walfeed.md", "Attributes")) == shown


@pytest.mark.parametrize("item", [Resync, Batch, Event], ids=lambda item: item.__name__)
def test_the_fields_of_items_are_documented(item: Any) -> None:
    names = [field.name for field in dataclasses.fields(item)]
    assert column("walfeed.md", item.__name__) == names


def test_the_reasons_of_resync_are_documented() -> None:
    reasons = list(get_args(ResyncReason))
    assert column("how-it-works.md", "Resync") == reasons
    cell = tables("walfeed.md", "Resync")[0][0][1]
    assert sorted(ast.literal_eval(code) for code in code_in(cell)) == sorted(reasons)


def test_the_tree_of_errors_is_the_code_s() -> None:
    section = text_of("walfeed.md").split("## Errors", 1)[1]
    tree = section.split("```text\n", 1)[1].split("```", 1)[0]
    parents: dict[str, str] = {}
    above: dict[int, str] = {}
    for line in tree.splitlines():
        match = re.search(r"\w+", line)
        assert match
        above[match.start()] = name = match[0]
        if match.start():
            parents[name] = above[max(depth for depth in above if depth < match.start())]
    classes = {name: getattr(errors, name) for name in errors.__all__}
    expected = {
        name: next(base.__name__ for base in kind.__bases__ if issubclass(base, PgNudgeError))
        for name, kind in classes.items()
        if kind is not PgNudgeError
    }
    assert parents == expected


# Signals and emit.


def test_the_arguments_of_signals_are_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    class Model:
        pass

    sent: dict[str, set[str]] = {}
    receivers = []
    for name in signals.__all__:
        fresh = Signal()
        monkeypatch.setattr(signals, name, fresh)

        def receive(sender: Any, signal: Any, name: str = name, **arguments: Any) -> None:
            sent[name] = set(arguments)

        receivers.append(receive)
        fresh.connect(receive)
    event = Event("public.x", 0.0)
    signals.send_changes(Batch((event,)), {Model: event}, "default")  # type: ignore[dict-item]
    signals.send_resynced("connected", "default")
    documented = {
        first_code(name): set(code_in(arguments))
        for name, _, _, arguments in tables("signals.md")[0]
    }
    assert documented == sent


@pytest.mark.parametrize("name", ["emit", "aemit"])
def test_the_signature_of_emit_is_documented(name: str) -> None:
    signature = inspect.signature(getattr(django_pgnudge, name))
    shown = ", ".join(
        each.name if each.default is each.empty else f"{each.name}={each.default!r}"
        for each in signature.parameters.values()
    )
    assert f"`{name}({shown})`" in text_of("emit.md")


# runnudge.


def _runnudge() -> Any:
    return load_command_class("django_pgnudge", "runnudge").create_parser("manage.py", "runnudge")


def test_the_options_of_runnudge_are_documented() -> None:
    common = set(BaseCommand().create_parser("", "")._option_string_actions)
    own = set(_runnudge()._option_string_actions) - common
    assert {code.split()[0] for code in column("runnudge.md", "Options")} == own


def test_shown_command_lines_of_runnudge_are_accepted() -> None:
    shown = set()
    for block in blocks():
        shown |= set(re.findall(r"manage\.py[\", ]+runnudge[^\n\]]*", block.code))
    assert shown
    for line in shown:
        arguments = re.split(r"[\", ]+", line.strip('"'))[2:]
        _runnudge().parse_args([argument for argument in arguments if argument])


def _constants() -> str:
    """Every piece of text in the package's code, with ``%s`` and fields cut out."""
    pieces = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                pieces.append(
                    "\0".join(
                        str(part.value) if isinstance(part, ast.Constant) else ""
                        for part in node.values
                    )
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                pieces.append(re.sub(r"%(?:\.\d)?[dsrf]", "\0", node.value))
    return "\n".join(pieces)


def _messages() -> list[str]:
    shown = [first_code(row[1]) for row in tables("runnudge.md", "Log")[0]]
    troubles = text_of("troubleshooting.md").split("Errors of this side:")[1]
    for term in re.findall(r"^(`.+)\n: ", troubles, re.MULTILINE):
        shown += code_in(term)
    return shown


@pytest.mark.parametrize("message", _messages())
def test_documented_messages_are_in_the_code(message: str) -> None:
    constants = _constants()
    pieces = [piece.strip(" ,.:()") for piece in message.split("…")]
    for piece in filter(lambda piece: len(piece) > 2, pieces):
        assert piece in constants, f"{piece!r} of {message!r} is nowhere in the code"


def _mistakes() -> list[tuple[str, str]]:
    rows = tables("troubleshooting.md", "runnudge ends with a message")[0]
    return [
        (state, code_in(said)[0] if code_in(said) else said)
        for states, said, _ in rows
        for state in code_in(states)
    ]


@pytest.mark.parametrize(("sqlstate", "said"), _mistakes())
def test_documented_mistakes_are_explained(sqlstate: str, said: str) -> None:
    assert explain(ServerError(said, sqlstate=sqlstate)) is not None


def test_every_explained_sqlstate_is_documented() -> None:
    assert {state for state, _ in _mistakes()} == set(_ADVICE)


# Around the code.


def test_the_two_commands_are_the_same_everywhere() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    demo = "python -m pip install -e '.[demo]' && python example_project/manage.py demo"
    test = "python -m pip install -e '.[test]' && pytest"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"$ {demo}\n" in readme
    assert f"$ {test}\n" in readme
    assert f"$ {demo}\n" in text_of("quickstart.md")
    assert f"$ {test}\n" in text_of("contributing.md")
    for path in PAGES:
        for named in re.findall(r"\.\[(\w+)\]'|django-pgnudge\[(\w+)\]", path.read_text("utf-8")):
            assert named[0] in extras or named[1] in extras, (path.name, named)


def test_the_shop_of_the_readme_is_the_one_of_the_quickstart() -> None:
    first, second = (
        block.code
        for block in python_blocks("settings")
        if block.page in ("README.md", "quickstart.md")
    )
    assert first == second


def test_files_that_the_readme_links_to_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", readme):
        assert (ROOT / target).exists(), target


def test_modules_on_the_path_of_a_byte_exist() -> None:
    for _, module, _ in tables("how-it-works.md", "The path of a byte")[0]:
        assert (PACKAGE / first_code(module)).exists(), module


def test_the_systemd_unit_runs_the_command() -> None:
    (unit,) = [block for block in blocks() if block.language == "ini"]
    parser = configparser.ConfigParser()
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(unit.code)
    assert parser["Service"]["ExecStart"].endswith(" manage.py runnudge")
    assert parser["Service"]["KillSignal"] == "SIGTERM"


def test_the_changelog_has_the_version_of_the_package() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {django_pgnudge.__version__}" in text


def test_pages_hold_no_addresses_of_machines_and_no_trailing_spaces() -> None:
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"/(?:tmp|work|home|root)/", text), path.name
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), path.name


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    lacking = [
        name for name in ("sphinx", "myst_parser", "furo") if not importlib.util.find_spec(name)
    ]
    if lacking:
        pytest.skip(f"the extra 'docs' is not installed: {', '.join(lacking)}")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-d",
         str(tmp_path / "doctrees"), str(DOCS_DIR), str(tmp_path / "html")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    for number in IDS:
        html = (tmp_path / "html" / "checks.html").read_text(encoding="utf-8")
        assert f'id="django-pgnudge-{number.lower()}"' in html


# On a server.


def test_documented_sql_is_accepted_by_a_server(postgres_factory: Any) -> None:
    server = postgres_factory()
    server.create_database("app")
    server.execute("CREATE ROLE app LOGIN", "app")
    server.execute("CREATE SCHEMA legacy", "app")
    server.execute(
        "CREATE TABLE legacy.price_list (code text NOT NULL,"
        " CONSTRAINT price_list_code_key UNIQUE (code))",
        "app",
    )
    for table in ("shop_product", "shop_category"):
        server.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, price numeric)", "app")
    knows_list = server.execute(
        "SELECT 1 FROM pg_settings WHERE name = 'output_plugin_libraries'", "app"
    )
    ran = 0
    for block in blocks():
        if block.language != "sql":
            continue
        for statement in filter(str.strip, block.code.split(";")):
            if "output_plugin_libraries" not in statement or knows_list:
                server.execute(statement, "app")
                ran += 1
    assert ran > 10
    assert server.execute(
        "SELECT rolreplication FROM pg_roles WHERE rolname IN ('app', 'nudge')"
    ) == [
        (True,),
        (True,),
    ]
