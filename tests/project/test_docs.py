"""The documentation is compared with the code."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import functools
import inspect
import re
import tomllib
from typing import Any, get_args

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand
from django.dispatch import Signal

import django_pgnudge
from django_pgnudge import TLS, Batch, Event, Resync, WalFeed, errors, signals
from django_pgnudge.checks.ids import DOCS, IDS, anchor
from django_pgnudge.conf import CONNECTION_KEYS, DEFAULTS
from django_pgnudge.conf.values import PLUGINS, RESYNCS, feed_keywords
from django_pgnudge.daemon.connect_hints import _ADVICE, explain
from django_pgnudge.daemon.feed_connection import _REFUSED
from django_pgnudge.decoding import DECODERS
from django_pgnudge.errors import PgNudgeError, ServerError
from django_pgnudge.events import ResyncReason
from tests import ROOT
from tests.doc_pages import PAGES, blocks, code_in, column, first_code, tables, text_of, values
from tests.shop.models import Product

PACKAGE = ROOT / "django_pgnudge"


def test_the_table_of_settings_is_the_code_s() -> None:
    def plain(value: Any) -> Any:
        if isinstance(value, tuple | list):
            return list(value)
        if hasattr(value, "keys"):
            return {key: plain(each) for key, each in value.items()}
        return value

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


def test_links_to_checks_name_the_check_they_lead_to() -> None:
    for path in PAGES:
        for name, target in re.findall(
            r"\[[^\]]*?([EWI]\d+)\]\(#django-pgnudge-(\w+)\)", path.read_text("utf-8")
        ):
            assert name.lower() == target, path.name


def test_checks_lead_to_the_page_that_has_them() -> None:
    assert DOCS.rsplit("/", 1)[1] == "checks.html"


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


@pytest.mark.django_db  # a connection left open by another test is cleaned up as between requests
def test_the_arguments_of_signals_are_documented(monkeypatch: pytest.MonkeyPatch) -> None:
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
    signals.send_changes(Batch((event,)), [(Product, event)], "default")
    signals.send_resynced("connected", "default")
    documented = {
        first_code(name): set(code_in(arguments))
        for name, _, _, arguments in tables("signals.md")[0]
    }
    assert documented == sent


@pytest.mark.parametrize(
    ("name", "page"),
    [("emit", "emit.md"), ("aemit", "emit.md"), ("invalidates", "rules.md")],
)
def test_signatures_of_functions_are_documented(name: str, page: str) -> None:
    signature = inspect.signature(getattr(django_pgnudge, name))
    bare = signature.replace(
        parameters=[each.replace(annotation=each.empty) for each in signature.parameters.values()],
        return_annotation=signature.empty,
    )
    assert f"`{name}{bare}`".replace("'", '"') in text_of(page)


def test_everything_the_package_exports_is_documented() -> None:
    pages = "\n".join(path.read_text(encoding="utf-8") for path in PAGES)
    names = {name for name in django_pgnudge.__all__ if not name.startswith("__")}
    assert {name for name in names if not re.search(rf"\b{name}\b", pages)} == set()


def _runnudge() -> Any:
    return load_command_class("django_pgnudge", "runnudge").create_parser("manage.py", "runnudge")


def test_the_options_of_runnudge_are_documented() -> None:
    def options(parser: Any) -> set[str]:
        return set(re.findall(r"(?<=\[)-[\w-]+", parser.format_usage()))

    own = options(_runnudge()) - options(BaseCommand().create_parser("", ""))
    assert {code.split()[0] for code in column("runnudge.md", "Options")} == own


def test_shown_command_lines_of_runnudge_are_accepted() -> None:
    shown = set()
    for block in blocks():
        shown |= set(re.findall(r"manage\.py[\", ]+runnudge[^\n\]]*", block.code))
    assert shown
    for line in shown:
        arguments = re.split(r"[\", ]+", line.strip('"'))[2:]
        _runnudge().parse_args([argument for argument in arguments if argument])


@functools.cache
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


def test_modules_on_the_path_of_a_byte_exist() -> None:
    for _, module, _ in tables("how-it-works.md", "The path of a byte")[0]:
        assert (PACKAGE / first_code(module)).exists(), module


def test_the_layers_are_those_that_import_linter_holds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = [
        contract["layers"]
        for contract in project["tool"]["importlinter"]["contracts"]
        if contract["type"] == "layers"
    ]
    (picture,) = [block.code for block in blocks() if block.code.startswith("contrib ▶")]
    shown = [set(re.findall(r"\w+", layer)) for layer in picture.split("▶")]
    assert shown == [set(re.findall(r"\w+", layer)) for layer in layers]


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
