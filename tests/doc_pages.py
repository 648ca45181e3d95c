"""Reading the documentation: its blocks of code, its tables, what stands below a heading."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from tests import ROOT

DOCS_DIR = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS_DIR.glob("*.md"))]

FENCE = re.compile(
    r"^(?:<!-- test: (?P<mark>[^\n]*?) -->\n)?"
    r"```(?P<language>\S*)[^\n]*\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


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
        for match in FENCE.finditer(text):
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
