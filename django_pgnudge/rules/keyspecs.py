"""What one entry of a rule's ``keys`` means.

The form of an entry decides. Only for identifiers joined by dots an import decides:

====================================  ==========================================================
``{"key": "any.text*{at} all"}``      that key, taken literally
a callable                            called with the event, returns keys
text with ``{`` or ``}``              a template: ``{pk}``, ``{pk[0]}``, ``{table}``, ``{schema}``
the dotted path of a callable         that callable (``shop.cachekeys.order_keys``)
text with ``*``                       a pattern; ``*`` is the only special character
any other text                        that key
``fragment``, ``page``, ``site``      the keys that Django builds
====================================  ==========================================================

``{pk}`` has the text of ``f"{obj.pk}"`` in Python, also for a composite key. ``{{`` and ``}}`` mean
braces. A template may contain ``*``; then it is a pattern for each primary key.

Patterns become Redis globs: ``*`` is special, and everything else is escaped.
"""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from django.conf import settings
from django.core.cache.utils import make_template_fragment_key

from django_pgnudge.conf.values import import_callable, is_dotted_path
from django_pgnudge.errors import RuleError
from django_pgnudge.names import DjangosKeys

if TYPE_CHECKING:
    from django_pgnudge.events import Event

_SPECIAL = re.compile(r"([*?\[])")
_FIELD = re.compile(r"pk|pk\[(\d{1,3})\]|table|schema")
_FIELDS: Final = "{pk}, {pk[0]}, {pk[1]}, …, {table} and {schema}; write {{ and }} for braces"


def read_again(value: object) -> float | None:
    """A rule's ``again`` in seconds. Raises RuleError for an invalid value."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 3600:
        return float(value)
    raise RuleError(
        "E007",
        f"'again' is {value!r}.",
        "Give the seconds after which the keys are deleted once more, at most 3600.",
    )


def glob_escape(text: str) -> str:
    """``text`` as a glob that matches only this text.

    Works for Redis, and for fnmatch if the text has no backslash.
    """
    return _SPECIAL.sub(r"[\1]", text.replace("\\", "\\\\"))


def _glob(text: str) -> str:
    return "*".join(map(glob_escape, text.split("*")))


@dataclass(frozen=True, slots=True)
class Fixed:
    """One key; ``written`` is its text in the rule, if it differs from the key."""

    key: str
    doubt: str = dataclasses.field(default="", compare=False)
    """Why it may be meant as the path of a callable."""
    is_broken: bool = dataclasses.field(default=False, compare=False)
    """Whether it is certainly such a path: its module exists and cannot be imported."""
    written: str = dataclasses.field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Pattern:
    """All keys that match a glob; ``written`` is its text in the rule."""

    glob: str
    written: str = dataclasses.field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Function:
    """Keys that a callable returns."""

    name: str
    call: Callable[[Event], Any]


@dataclass(frozen=True, slots=True)
class Field:
    """A field in a template: ``name`` is pk, table or schema; ``column`` is a column of the key."""

    name: str
    column: int | None = None


@dataclass(frozen=True, slots=True)
class Template:
    """Keys of rows: literal text (already escaped if the template is a glob) and fields."""

    text: str
    parts: tuple[str | Field, ...]
    is_glob: bool

    def bind(self, schema: str, table: str) -> Template | Fixed | Pattern:
        """The template with the table's names filled in; a key or pattern if no field is left.

        The name ``*`` means any, so its field stays.
        """
        given = {"table": table, "schema": schema}
        names = {name: value for name, value in given.items() if value != "*"}
        parts = tuple(
            self._text(names[part.name]) if isinstance(part, Field) and part.name in names else part
            for part in self.parts
        )
        literal = [part for part in parts if isinstance(part, str)]
        if len(literal) < len(parts):
            return Template(self.text, parts, self.is_glob)
        return Pattern("".join(literal)) if self.is_glob else Fixed("".join(literal))

    def fill(self, pk: tuple[Any, ...]) -> str:
        """The key (or glob) of one row. Raises IndexError if the primary key has fewer columns."""
        whole = pk[0] if len(pk) == 1 else pk
        return "".join([
            part if isinstance(part, str)
            else self._text(str(whole if part.column is None else pk[part.column]))
            for part in self.parts
        ])  # fmt: skip

    def widen(self) -> Pattern:
        """A pattern that matches the keys of all rows."""
        return Pattern("".join(
            "*" if isinstance(part, Field) else part if self.is_glob else glob_escape(part)
            for part in self.parts
        ))  # fmt: skip

    def columns(self) -> int:
        """How many columns the primary key must have."""
        return max(
            (
                part.column + 1
                for part in self.parts
                if isinstance(part, Field) and part.column is not None
            ),
            default=1,
        )

    def _text(self, value: str) -> str:
        return glob_escape(value) if self.is_glob else value


@dataclass(frozen=True, slots=True)
class Fragment(Template):
    """The key of a template fragment that varies on the row; each value is a template."""

    name: str
    vary_on: tuple[Template, ...]

    def bind(self, schema: str, table: str) -> Template | Fixed | Pattern:
        bound = [each.bind(schema, table) for each in self.vary_on]
        if all(isinstance(each, Fixed) for each in bound):
            return Fixed(_fragment_key(self.name, [each.key for each in bound]))  # type: ignore[union-attr]
        kept = tuple(each if isinstance(each, Template) else _literal_template(each)
                     for each in bound)  # fmt: skip
        return Fragment(self.text, self.parts, self.is_glob, self.name, kept)

    def fill(self, pk: tuple[Any, ...]) -> str:
        return _fragment_key(self.name, [each.fill(pk) for each in self.vary_on])

    def widen(self) -> Pattern:
        return _all_fragments(self.name)

    def columns(self) -> int:
        return max(each.columns() for each in self.vary_on)


KeySpec: TypeAlias = Fixed | Pattern | Template | Function


def parse_keys(entry: object) -> tuple[KeySpec, ...]:
    """The specs of one entry; ``page`` and ``site`` need several. Raises RuleError."""
    return _djangos(entry) if isinstance(entry, DjangosKeys) else (parse_key(entry),)


def parse_key(entry: object) -> KeySpec:
    """The spec of one entry that is not Django's. Raises RuleError."""
    if isinstance(entry, Mapping):
        return _literal(entry)
    if callable(entry):
        name = getattr(entry, "__qualname__", None) or repr(entry)
        return Function(f"{getattr(entry, '__module__', '?')}.{name}", entry)
    if not isinstance(entry, str) or not entry:
        raise RuleError(
            "E007",
            f"{entry!r} is not a key.",
            'A key is a non-empty string, a callable, or {"key": "literal text"}.',
        )
    if "{" in entry or "}" in entry:
        return _template(entry)
    if is_dotted_path(entry):
        try:
            return Function(entry, import_callable(entry))
        except ValueError as error:
            is_broken = not _is_nothing(entry, error.__cause__)
            doubt = str(error) if is_broken or _begins_as_module(entry) else ""
            return Fixed(entry, doubt, is_broken)
    return Pattern(_glob(entry), repr(entry)) if "*" in entry else Fixed(entry)


def parse_result(result: object) -> Iterable[Fixed | Pattern]:
    """The keys that a callable returned: None, one entry, or an iterable. Raises RuleError.

    Entries are read as in a rule, except that templates and dotted paths are plain keys.
    """
    if result is None:
        return
    entries = [result] if isinstance(result, str | Mapping) else result
    if not isinstance(entries, Iterable):
        raise RuleError(
            "E007", f"{result!r} is neither a key nor an iterable of keys.", "Return keys."
        )
    for entry in entries:
        if isinstance(entry, Mapping):
            yield _literal(entry)
        elif isinstance(entry, str) and entry:
            yield Pattern(_glob(entry)) if "*" in entry else Fixed(entry)
        else:
            raise RuleError(
                "E007",
                f"{entry!r} is not a key.",
                "Return non-empty strings; for a fragment, make_template_fragment_key(…).",
            )


def _is_nothing(path: str, error: BaseException | None) -> bool:
    """Whether an import failed because the module, or the callable in it, does not exist."""
    if isinstance(error, ModuleNotFoundError):
        return error.name is not None and f"{path}.".startswith(f"{error.name}.")
    # import_string() raises from AttributeError if the module has no such name.
    return error is None or isinstance(error.__cause__, AttributeError)


def _begins_as_module(path: str) -> bool:
    """Whether the first name of a dotted path is a module that can be found."""
    try:
        return find_spec(path.partition(".")[0]) is not None
    except (ImportError, ValueError):  # __main__ has no spec
        return True


def _djangos(keys: DjangosKeys) -> tuple[KeySpec, ...]:
    if keys.name is None:
        prefix = settings.CACHE_MIDDLEWARE_KEY_PREFIX if keys.prefix is None else keys.prefix
        tail = "*" if prefix == "*" else f"{glob_escape(prefix)}.*"
        # Delete both. Django first looks up the list of headers of a URL. If only that list were
        # deleted, the next request would store it again and old pages would be found again.
        return tuple(
            Pattern(f"views.decorators.cache.cache_{part}.{tail}", keys.written)
            for part in ("header", "page")
        )
    if keys.name == "*" and set(keys.vary_on) - {"*"}:
        raise RuleError(
            "E008",
            f"{keys.written} names all fragments, and a value that one of them varies on.",
            'Write fragment("*") for all fragments, or name the one that you mean.',
        )
    if "*" in (keys.name, *keys.vary_on):
        return (_all_fragments(keys.name, keys.written),)
    templates = tuple(map(_vary_template, keys.vary_on))
    if all(isinstance(part, str) for each in templates for part in each.parts):
        key = _fragment_key(keys.name, [each.fill(()) for each in templates])
        return (Fixed(key, written=keys.written),)
    return (Fragment(keys.written, (), False, keys.name, templates),)


def _vary_template(text: str) -> Template:
    found = _template(text)
    if found.is_glob:
        raise RuleError(
            "E008",
            f"A fragment cannot vary on {text!r}: its key contains only a digest of the value.",
            'A lone "*" means all fragments of the name.',
        )
    return found


def _literal_template(key: Fixed | Pattern) -> Template:
    text = key.key if isinstance(key, Fixed) else key.glob
    return Template(text, (text,), False)


def _fragment_key(name: str, vary_on: Iterable[str]) -> str:
    return make_template_fragment_key(name, list(vary_on))


def _all_fragments(name: str, written: str = "") -> Pattern:
    # Matches everything that Django puts after the name.
    whole = make_template_fragment_key(name, ["*"])
    head, _, _ = whole.rpartition(".")
    if name == "*":
        return Pattern(f"{glob_escape(head.removesuffix('*'))}*", written)
    return Pattern(f"{glob_escape(head)}.*", written)


def _literal(entry: Mapping[Any, Any]) -> Fixed:
    key = entry.get("key")
    if set(entry) != {"key"} or not isinstance(key, str) or not key:
        raise RuleError(
            "E007",
            f"{dict(entry)!r} is not a key.",
            'A literal key is written {"key": "text"}, without other items.',
        )
    return Fixed(key)


def _template(text: str) -> Template:
    parts: list[str | Field] = []
    is_glob = "*" in text
    try:
        pieces = list(string.Formatter().parse(text))
    except ValueError as error:
        raise RuleError(
            "E008", f"The template {text!r} is malformed: {error}.", f"The fields are {_FIELDS}."
        ) from error
    for literal, field, spec, conversion in pieces:
        if literal:
            parts.append(_glob(literal) if is_glob else literal)
        if field is None:
            continue
        match = _FIELD.fullmatch(field)
        if match is None or spec or conversion:
            raise RuleError(
                "E008",
                f"The template {text!r} has an unknown field.",
                f"The fields are {_FIELDS}.",
            )
        if match[1] is not None:
            parts.append(Field("pk", int(match[1])))
        else:
            parts.append(Field(field))
    return Template(text, tuple(parts), is_glob)
