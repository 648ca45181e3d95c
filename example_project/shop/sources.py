"""What the page shows as code: the rules it runs on, read from the files when the site starts."""

from __future__ import annotations

import ast
import inspect
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import connection
from psycopg.conninfo import make_conninfo
from shop_site import settings as settings_module

from shop import cachekeys, nudged_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SQL = "UPDATE shop_product SET price = price + 1 WHERE id = 1"
TEMPLATE = Path(__file__).parent / "templates/shop/office.html"


@dataclass(frozen=True)
class Source:
    """One block of code: its file, what it is about, and its text."""

    name: str
    about: str
    code: str


def _part(module: ModuleType, wanted: Callable[[ast.stmt], bool]) -> str:
    """A module's text from the first of these statements to the last."""
    text = inspect.getsource(module)
    found = [node for node in ast.parse(text).body if wanted(node)]
    # A decorated function begins at its first decorator.
    first = min(each.lineno for each in (found[0], *getattr(found[0], "decorator_list", ())))
    return "\n".join(text.splitlines()[first - 1 : found[-1].end_lineno])


def _is_setting(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PGNUDGE"


def _is_rule(node: ast.stmt) -> bool:
    is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    return is_call or isinstance(node, ast.FunctionDef)


def _is_value(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and not node.name.startswith("_")


SOURCES = [
    Source("settings.py", "rules in the settings", _part(settings_module, _is_setting)),
    Source("cachekeys.py", "rules beside the models", _part(cachekeys, _is_rule)),
    Source("nudged_values.py", "values by nudged", _part(nudged_values, _is_value)),
    Source("office.html", "the fragment", TEMPLATE.read_text().strip()),
]


def psql() -> str:
    """A line for a terminal that changes a price; psql asks for the password, if there is one."""
    database = connection.settings_dict
    address = make_conninfo(
        host=database["HOST"],
        port=database["PORT"],
        user=database["USER"],
        dbname=database["NAME"],
    )
    program = "psql"
    if shutil.which(program) is None:
        program = settings.STATE.read().get("psql", program)
    return shlex.join([program, address, "-c", SQL])
