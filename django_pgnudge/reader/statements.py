"""What the text of a statement tells: what it may change, and what it reads besides rows.

PostgreSQL says which relations a statement touches (`read_transaction`). These texts are only
looked at for what no lock shows: a changed session, the clock, a random number, a setting.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from django_pgnudge.memo import Memo

if TYPE_CHECKING:
    from collections.abc import Iterable

# Statements that begin with these leave search_path, role and temporary tables alone, but for the
# functions they call and what they select into.
_PLAIN: Final = frozenset({
    "analyze", "begin", "close", "commit", "copy", "declare", "delete", "explain", "fetch",
    "insert", "listen", "lock", "merge", "move", "notify", "release", "rollback", "savepoint",
    "select", "start", "table", "truncate", "update", "vacuum", "values", "with",
})  # fmt: skip

_ORM: Final = ("SELECT ", "INSERT ", "UPDATE ", "DELETE ")
"""Most statements begin with these."""

# Any of these in another statement may change what a name means in this session.
_TELLING: Final = (
    "search_path", "schema", "role", "authorization", "discard", "reset", "temp",
)  # fmt: skip

_WRITES: Final = re.compile(
    r"\b(?:insert|update|delete|merge|truncate|copy|call|notify|create|alter|drop|set|lock)\b"
)
_FIRST_WORD: Final = re.compile(r"(?:[\s(]|/\*.*?\*/|--[^\n]*\n)*([a-z]+)", re.DOTALL)
_INTO_TEMPORARY: Final = re.compile(r"\binto\s+(?:local\s+|global\s+)?temp|\bpg_temp\b")

READS: Final = frozenset({"select", "values", "with", "table"})
"""A READ ONLY transaction runs these as a session in autocommit would, or refuses them."""

ENDS: Final = frozenset(
    {"begin", "start", "commit", "end", "rollback", "abort", "release", "savepoint"}
)
"""These begin or end transactions and savepoints."""

_QUOTED: Final = re.compile(
    r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | \$(\w*)\$.*?\$\1\$ | --[^\n]* | /\*.*?\*/""",
    re.DOTALL | re.VERBOSE,
)
_PLACEHOLDER: Final = re.compile(r"%(?:\(\w+\))?[sbt]")
_OPERATOR: Final = re.compile(r"[-+*/<>=~!@#%^&|`?]+")
_SETS_PATH: Final = re.compile(r"\s*set\s+(?:session\s+)?search_path\s*(?:=|to\b)", re.IGNORECASE)
_INTO: Final = re.compile(r"\binto\b")
_CATCHES: Final = re.compile(r"\bexception\s+when\b")
_MAY_READ: Final = re.compile(r"\b(?:from|table|execute)\b")
_EXECUTES: Final = re.compile(r"\bexecute\b")
_SPECIAL_DATE: Final = re.compile(
    r"'\s*(now|today|tomorrow|yesterday)(?:\s+[\w:.+/-]+)*\s*'", re.IGNORECASE
)
_CALL: Final = re.compile(r"([^\W\d][\w$]*)\s*\(")

# Functions and words of PostgreSQL whose results depend on more than rows and arguments.
_CLOCKS: Final = frozenset({
    "now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday",
})  # fmt: skip
_RANDOM: Final = frozenset({
    "random", "random_normal", "setseed", "gen_random_uuid", "gen_random_bytes", "uuidv4",
    "uuidv7", "uuid_generate_v1", "uuid_generate_v1mc", "uuid_generate_v4",
})  # fmt: skip
_SEQUENCES: Final = frozenset({"nextval", "currval", "lastval", "setval"})
_SESSION: Final = frozenset({
    "current_setting", "set_config", "current_schema", "current_schemas", "current_database",
    "current_query", "inet_client_addr", "inet_client_port", "inet_server_addr", "version",
    "row_security_active", "has_table_privilege", "has_column_privilege", "has_schema_privilege",
})  # fmt: skip
_OUTSIDE: Final = frozenset({
    "query_to_xml", "table_to_xml", "schema_to_xml", "database_to_xml", "cursor_to_xml",
    "loread", "lowrite",
})  # fmt: skip
_WORDS: Final = re.compile(
    r"\b(current_timestamp|current_date|current_time|localtime|localtimestamp|current_user"
    r"|session_user|current_role|current_catalog|tablesample)\b"
)
_AGE_OF_ONE: Final = re.compile(r"\bage\s*\([^,()]*\)")
_SYSTEM: Final = ("pg_", "txid_", "dblink", "lo_", "system_user")
_HARMLESS: Final = frozenset({"pg_typeof", "pg_collation_for", "pg_input_is_valid"})
_NO_FUNCTIONS: Final = frozenset({
    "all", "any", "as", "and", "array", "between", "by", "cast", "char", "coalesce", "count",
    "distinct", "else", "except", "exists", "extract", "filter", "from", "greatest", "having", "in",
    "inner", "intersect", "interval", "join", "lateral", "least", "limit", "max", "min", "not",
    "nullif", "numeric", "offset", "on", "or", "over", "row", "select", "sum", "then", "union",
    "using", "values", "varchar", "when", "where", "with", "within",
})  # fmt: skip


def alters_session(sql: Any, params: Any = None) -> bool:
    """Whether a statement may change what a table's name means to its session."""
    if not isinstance(sql, str):  # a Composable of the driver's
        return True
    lowered = sql.lower()
    if not sql.startswith(_ORM) or ";" in sql:
        found = _FIRST_WORD.match(lowered)
        if found is None or found[1] not in _PLAIN or ";" in lowered.rstrip().removesuffix(";"):
            return any(word in lowered for word in _TELLING) or (
                found is not None and found[1] in ("do", "call", "execute")
            )
    if "set_config" in lowered:
        said = lowered + repr(params).lower()
        return any(word in said for word in ("search_path", "role", "authorization"))
    return "temp" in lowered and _INTO_TEMPORARY.search(lowered) is not None


def only_sets_search_path(sql: Any) -> bool:
    """Whether a statement sets the session's search_path, and does nothing else."""
    return isinstance(sql, str) and is_one_statement(sql) and _SETS_PATH.match(sql) is not None


def first_word(sql: str) -> str:
    """The first word of a statement in lower case, past comments and parentheses."""
    found = _FIRST_WORD.match(sql[:1000].lower())
    return "" if found is None else found[1]


def is_one_statement(sql: str) -> bool:
    """Whether there is surely no second statement behind a semicolon."""
    return ";" not in sql.rstrip().removesuffix(";")


_needs: Memo[str, tuple[str, frozenset[str]]] = Memo(2048)


def more_than_rows(sql: str) -> tuple[str, frozenset[str]]:
    """What a text reads besides rows (empty if nothing is seen), and which functions it calls.

    The functions are those that PostgreSQL's own names do not explain: a site's or an extension's
    may be among them. Words in quotes and comments do not count.
    """
    found = _needs.get(sql)
    if found is None:
        found = _more_than_rows(sql)
        if len(sql) <= 20_000:
            _needs[sql] = found
    return found


def _more_than_rows(sql: str) -> tuple[str, frozenset[str]]:
    if special := _SPECIAL_DATE.search(sql):
        return f"the clock ('{special[1]}')", frozenset()
    bare = _bare(sql)
    if word := _WORDS.search(bare):
        return _said(word[1]), frozenset()
    if _AGE_OF_ONE.search(bare):
        return "the clock (age)", frozenset()
    calls = calls_in(sql)
    why = more_than_arguments(calls)
    return why, frozenset() if why else calls


def calls_in(sql: str) -> frozenset[str]:
    """The names of functions that a text may call."""
    calls = set(_CALL.findall(_bare(sql))) - _NO_FUNCTIONS
    # Functions may be quoted, too.
    calls |= {name.replace('""', '"') for name in re.findall(r'"((?:[^"]|"")+)"\s*\(', sql)}
    return frozenset(calls)


def more_than_arguments(calls: Iterable[str]) -> str:
    """What the functions of PostgreSQL among these read besides; empty if nothing."""
    return next(filter(None, map(_why_of, sorted(calls))), "")


def operators_in(sql: str) -> frozenset[str]:
    """The operators of a text, which may have a driver's placeholders."""
    bare = _QUOTED.sub(" ", _PLACEHOLDER.sub(" ", sql)).replace("%%", "%")
    return frozenset(_OPERATOR.findall(bare))


def selects_into(sql: str) -> bool:
    """Whether a SELECT may make a table."""
    return _INTO.search(_bare(sql)) is not None


def catches_errors(body: str) -> bool:
    """Whether a function in PL/pgSQL has a block that catches errors.

    PostgreSQL releases the locks of such a block when it fails, and the variables keep what was
    read. What it refuses in a READ ONLY transaction may be caught, too.
    """
    return _CATCHES.search(_bare(body)) is not None


def may_read(body: str) -> bool:
    """Whether a function's own text may read a table."""
    return _MAY_READ.search(_bare(body)) is not None


def writes(body: str) -> bool:
    """Whether the body of a function has a word of a statement that writes."""
    return _WRITES.search(_bare(body)) is not None


def executes(body: str) -> bool:
    """Whether a function in PL/pgSQL runs statements that stand in strings."""
    return _EXECUTES.search(_bare(body)) is not None


def _bare(sql: str) -> str:
    """The text in lower case, without what stands in quotes and comments."""
    return _QUOTED.sub(" '' ", sql).lower()


def _why_of(name: str) -> str:
    if name in _CLOCKS:
        return f"the clock ({name})"
    if name in _RANDOM:
        return f"random values ({name})"
    if name in _SEQUENCES:
        return f"a sequence ({name})"
    if name in _SESSION:
        return f"its session ({name})"
    if name in _OUTSIDE or (name.startswith(_SYSTEM) and name not in _HARMLESS):
        return f"the state of the server ({name})"
    return ""


def _said(word: str) -> str:
    if word == "tablesample":
        return "random values (TABLESAMPLE)"
    is_session = word.endswith(("user", "role", "catalog"))
    return f"{'its session' if is_session else 'the clock'} ({word})"
