"""The defaults of ``PGNUDGE``, and for each key a function that finds its problems.

The system checks show all problems. Reading an invalid value raises the first one.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from django.conf import settings
from django.utils.module_loading import import_string

PLUGINS: Final = ("auto", "pgoutput", "wal2json", "test_decoding")
RESYNCS: Final = ("versions", "keys", "clear")
SITES: Final = ("all", "marked")

CONNECTION_KEYS: Final = frozenset({
    "application_name", "channel_binding", "connect_timeout", "database", "dbname", "gssencmode",
    "host", "hostaddr", "passfile", "password", "port", "require_auth", "service", "sslcert",
    "sslcrl", "sslkey", "sslmode", "sslnegotiation", "sslpassword", "sslrootcert", "sslsni",
    "target_session_attrs", "user",
})  # fmt: skip
"""The keys of ``PGNUDGE["CONNECTION"]``: libpq's, and ``database`` for ``dbname``."""

DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "DATABASE": "default",
        "PLUGIN": "auto",
        "PUBLICATION": None,
        "CONNECTION": MappingProxyType({}),
        "TABLES": None,
        # Django's own tables that no page shows; Django writes some of them on every request.
        "EXCLUDE": ("*.django_session", "*.django_migrations", "*.django_admin_log"),
        "FEED": MappingProxyType({}),
        "INVALIDATE": MappingProxyType({}),
        "RESYNC": "versions",
        "NUDGED": MappingProxyType(
            {
                "CACHES": ("default",),
                "LEASE": 10.0,
                "SKEW": 1.0,
                "SCOPE": None,
                "OBSERVE": None,
                "SITE": "all",
                "HEADER": False,
            }
        ),
    }
)

# Keywords of WalFeed that another setting sets, with that setting.
_FEED_ELSEWHERE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "host": 'PGNUDGE["CONNECTION"]',
        "port": 'PGNUDGE["CONNECTION"]',
        "user": 'PGNUDGE["CONNECTION"]',
        "database": 'PGNUDGE["CONNECTION"]["dbname"]',
        "password": 'PGNUDGE["CONNECTION"]',
        "ssl": 'PGNUDGE["CONNECTION"]["sslmode"] and the other keys for TLS',
        "require_auth": 'PGNUDGE["CONNECTION"]',
        "tables": 'PGNUDGE["TABLES"] and PGNUDGE["EXCLUDE"]',
        "plugin": 'PGNUDGE["PLUGIN"]',
        "publication": 'PGNUDGE["PUBLICATION"]',
        "keys": "nothing: the rules know which tables need keys",
        "give_up": "nothing: runnudge decides when to give up",
        "locate": 'nothing: runnudge asks DATABASES and PGNUDGE["CONNECTION"] each time',
    }
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the settings; ``id`` is the number of its system check."""

    id: str
    message: str
    hint: str


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """`` Did you mean …?`` if one of ``known`` resembles ``name``, else an empty string."""
    close = closest(name, {candidate: candidate for candidate in known})
    return f" Did you mean {close!r}?" if close else ""


NEAR: Final = 0.85
"""A similarity, at most 1, above which a name counts as a mistyped other name. Below it, the other
name is only suggested."""


def closest(name: object, known: Mapping[str, str], cutoff: float = 0.6) -> str | None:
    """The value of ``known`` whose name is most similar to ``name``, ignoring case, or None.

    ``cutoff`` is the least similarity, as in `difflib`: 1 means equal.
    """
    by_folded = {candidate.casefold(): meant for candidate, meant in known.items()}
    close = difflib.get_close_matches(str(name).casefold(), by_folded, n=1, cutoff=cutoff)
    return by_folded[close[0]] if close else None


def is_dotted_path(text: str) -> bool:
    """Whether ``text`` is two or more Python identifiers joined by dots."""
    parts = text.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def import_callable(path: str) -> Callable[..., Any]:
    """The callable of a dotted path. Raises ValueError with the reason for any failure."""
    try:
        found = import_string(path)
    except Exception as error:
        raise ValueError(f"importing it raises {type(error).__name__}: {error}") from error
    if not callable(found):
        raise ValueError(f"it is a {type(found).__name__}, which is not callable")
    return found  # type: ignore[no-any-return]


def feed_keywords() -> frozenset[str]:
    """The keywords of ``WalFeed`` that ``PGNUDGE["FEED"]`` may set."""
    from django_pgnudge.feed import WalFeed  # noqa: PLC0415 - only FEED needs it

    return frozenset(inspect.signature(WalFeed).parameters) - _FEED_ELSEWHERE.keys()


def wrong_value(key: str, value: object, why: str, hint: str) -> list[Problem]:
    """The problem of an invalid value of ``PGNUDGE[key]``, as a list of one."""
    return [Problem("E003", f'PGNUDGE["{key}"] = {value!r}: {why}.', hint)]


def _database(value: Any) -> list[Problem]:
    aliases = list(settings.DATABASES)
    if isinstance(value, str) and value in aliases:
        return []
    return [Problem(
        "E004", f'PGNUDGE["DATABASE"] = {value!r} is not an alias of DATABASES.',
        f"Use one of {', '.join(map(repr, aliases))}.{did_you_mean(value, aliases)}",
    )]  # fmt: skip


def _plugin(value: Any) -> list[Problem]:
    if isinstance(value, str) and value in PLUGINS:
        return []
    return wrong_value(
        "PLUGIN",
        value,
        "there is no such plugin",
        f"Use one of {', '.join(map(repr, PLUGINS))}.{did_you_mean(value, PLUGINS)}",
    )


def _publication(value: Any) -> list[Problem]:
    if value is None or (isinstance(value, str) and value and "\0" not in value):
        return []
    return wrong_value(
        "PUBLICATION",
        value,
        "a publication's name is a non-empty string",
        "Name the publication, or leave the key out.",
    )


def _connection(value: Any) -> list[Problem]:
    if not isinstance(value, Mapping):
        return wrong_value(
            "CONNECTION",
            value,
            "it is not a dictionary",
            'For example {"user": "nudge", "password": "…"}.',
        )
    problems = []
    for name, given in value.items():
        where = f'CONNECTION"]["{name}'
        # The messages leave the value out, since it may be a password.
        if name not in CONNECTION_KEYS:
            problems.append(
                Problem(
                    "E002",
                    f'PGNUDGE["{where}"] is not a connection parameter.',
                    f"The parameters are {', '.join(sorted(CONNECTION_KEYS))}."
                    f"{did_you_mean(name, CONNECTION_KEYS)}",
                )
            )
        elif name == "port" and not (str(given).isdecimal() and 0 < int(given) < 65536):
            problems += wrong_value(
                where, given, "a port is a number from 1 to 65535", "Give a number."
            )
        elif not isinstance(given, str | int | os.PathLike) or isinstance(given, bool):
            problems.append(
                Problem(
                    "E003",
                    f'PGNUDGE["{where}"] is a {type(given).__name__}, not a string.',
                    "Give a string.",
                )
            )
    return problems


def _labels(key: str, value: Any) -> list[Problem]:
    # A string is refused, because it is a sequence of letters.
    if isinstance(value, list | tuple | set | frozenset) and all(
        isinstance(label, str) and label for label in value
    ):
        return []
    return wrong_value(
        key,
        value,
        "it is not a list of model labels and tables",
        'For example ["shop.Product", "legacy.price_list", "audit.*"].',
    )


def _tables(value: Any) -> list[Problem]:
    return [] if value is None else _labels("TABLES", value)


def _exclude(value: Any) -> list[Problem]:
    return _labels("EXCLUDE", value)


def _feed(value: Any) -> list[Problem]:
    from django_pgnudge.errors import ConfigError  # noqa: PLC0415
    from django_pgnudge.feed import WalFeed  # noqa: PLC0415

    if not isinstance(value, Mapping):
        return wrong_value(
            "FEED", value, "it is not a dictionary", 'For example {"debounce": 0.2}.'
        )
    known = feed_keywords()
    problems = []
    for name in value:
        if name in _FEED_ELSEWHERE:
            problems.append(
                Problem(
                    "E005",
                    f'PGNUDGE["FEED"][{name!r}] cannot be set there.',
                    f"That is set by {_FEED_ELSEWHERE[name]}.",
                )
            )
        elif name in known and isinstance(value[name], str) and name != "application_name":
            problems += wrong_value(
                f'FEED"]["{name}', value[name], "it is a string", "Give a number, without quotes."
            )
        elif name not in known:
            problems.append(
                Problem(
                    "E005",
                    f'PGNUDGE["FEED"][{name!r}] is not a keyword of WalFeed.',
                    f"The keywords are {', '.join(sorted(known))}.{did_you_mean(name, known)}",
                )
            )
    if not problems and value:
        # Only the constructor knows which values are valid, and it does no I/O.
        try:
            WalFeed(user="check", database="check", **value)
        except (ConfigError, TypeError, ValueError) as error:
            problems = wrong_value(
                "FEED", dict(value), str(error).rstrip("."), "Correct that value."
            )
    return problems


def _invalidate(value: Any) -> list[Problem]:
    if isinstance(value, Mapping) and all(isinstance(label, str) and label for label in value):
        return []
    return wrong_value(
        "INVALIDATE",
        value,
        "it is not a dictionary from model labels or tables to keys",
        'For example {"shop.Product": ["products", "product:{pk}"]}.',
    )


def _resync(value: Any) -> list[Problem]:
    allowed = f"Use one of {', '.join(map(repr, RESYNCS))} or the dotted path of a function."
    if isinstance(value, str) and value in RESYNCS:
        return []
    if not isinstance(value, str) or not is_dotted_path(value):
        return wrong_value(
            "RESYNC",
            value,
            "there is no such way to resync",
            allowed + did_you_mean(value, RESYNCS),
        )
    try:
        import_callable(value)
    except ValueError as error:
        return wrong_value("RESYNC", value, str(error), allowed)
    return []


def _nudged(value: Any) -> list[Problem]:
    if not isinstance(value, Mapping):
        return wrong_value(
            "NUDGED", value, "it is not a dictionary", 'For example {"CACHES": ["default"]}.'
        )
    known = DEFAULTS["NUDGED"]
    problems = [
        Problem(
            "E002",
            f'PGNUDGE["NUDGED"][{name!r}] is not a setting of nudged values.',
            f"The keys are {', '.join(known)}.{did_you_mean(name, known)}",
        )
        for name in value
        if name not in known
    ]
    for name, find in _NUDGED_PROBLEMS.items():
        if name in value:
            problems += find(value[name])
    return problems


def _nudged_caches(value: Any) -> list[Problem]:
    where = 'NUDGED"]["CACHES'
    if not isinstance(value, list | tuple):
        return wrong_value(
            where, value, "it is not a list of aliases of CACHES", 'For example ["default"].'
        )
    return [
        problem
        for alias in value
        if not (isinstance(alias, str) and alias in settings.CACHES)
        for problem in wrong_value(
            where,
            value,
            f"{alias!r} is not an alias of CACHES",
            f"CACHES has {', '.join(map(repr, settings.CACHES))}."
            f"{did_you_mean(alias, settings.CACHES)}",
        )
    ]


def _lease(value: Any) -> list[Problem]:
    if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 3600:
        return []
    return wrong_value(
        'NUDGED"]["LEASE',
        value,
        "a lease is from 1 to 3600 seconds long",
        "Give a number of seconds.",
    )


def _skew(value: Any) -> list[Problem]:
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 60:
        return []
    return wrong_value(
        'NUDGED"]["SKEW',
        value,
        "hosts' clocks may be from 0 to 60 seconds apart",
        "Give a number of seconds.",
    )


def _observe(value: Any) -> list[Problem]:
    if value is None or value in ("warn", "raise", "off"):
        return []
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return []
    return wrong_value(
        'NUDGED"]["OBSERVE',
        value,
        "that is no way to check declared dependencies",
        'Use "warn", "raise", "off", or a share of the misses to check, such as 0.01.',
    )


def _site(value: Any) -> list[Problem]:
    if value in SITES:
        return []
    return wrong_value(
        'NUDGED"]["SITE',
        value,
        "that does not say which pages NudgedSiteMiddleware keeps",
        f"Use one of {', '.join(map(repr, SITES))}.{did_you_mean(value, SITES)}",
    )


def _header(value: Any) -> list[Problem]:
    if isinstance(value, bool):
        return []
    return wrong_value('NUDGED"]["HEADER', value, "it is not True or False", "Give True or False.")


def _scope(value: Any) -> list[Problem]:
    if value is None or callable(value):
        return []
    where, hint = 'NUDGED"]["SCOPE', "Give a function of an alias, or its dotted path."
    if not isinstance(value, str) or not is_dotted_path(value):
        return wrong_value(where, value, "it is not a function", hint)
    try:
        import_callable(value)
    except ValueError as error:
        return wrong_value(where, value, str(error), hint)
    return []


_NUDGED_PROBLEMS: Final[Mapping[str, Callable[[Any], list[Problem]]]] = MappingProxyType(
    {
        "CACHES": _nudged_caches,
        "LEASE": _lease,
        "SKEW": _skew,
        "SCOPE": _scope,
        "OBSERVE": _observe,
        "SITE": _site,
        "HEADER": _header,
    }
)

PROBLEMS: Final[Mapping[str, Callable[[Any], list[Problem]]]] = MappingProxyType(
    {
        "DATABASE": _database,
        "PLUGIN": _plugin,
        "PUBLICATION": _publication,
        "CONNECTION": _connection,
        "TABLES": _tables,
        "EXCLUDE": _exclude,
        "FEED": _feed,
        "INVALIDATE": _invalidate,
        "RESYNC": _resync,
        "NUDGED": _nudged,
    }
)
