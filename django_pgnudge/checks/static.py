"""Checks of the settings and rules, without a connection; one function a message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.db import connections

from django_pgnudge.checks.ids import message
from django_pgnudge.checks.sharing import check_sharing
from django_pgnudge.conf import conf
from django_pgnudge.conf.libpq import may_lead_to_a_standby
from django_pgnudge.errors import PgNudgeError, UnknownLabelError
from django_pgnudge.reader.declared import declared_mistakes, uses_nudged
from django_pgnudge.registry import Registry
from django_pgnudge.registry.labels import EVERY_TABLE
from django_pgnudge.registry.trees import models_in_tree
from django_pgnudge.rules import Rule, read_rules
from django_pgnudge.rules.keyspecs import Fixed, Pattern, Template

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.core.checks import CheckMessage


_SESSION_TABLES = (
    "django.contrib.sessions.backends.db",
    "django.contrib.sessions.backends.cached_db",
)


@dataclass(frozen=True, slots=True)
class _Site:
    """What the checks look at; ``rules`` has only valid rules."""

    registry: Registry
    rules: list[Rule]

    def payloads(self, rule: Rule, payload: str) -> Iterator[str]:
        """The table of a rule, and those below it if its target is a tree."""
        yield payload
        target = rule.target
        top = self.registry.model_of(target) if isinstance(target, str) else target
        if rule.is_tree and top is not None:
            yield from map(self.registry.payload_of, models_in_tree(top))

    def aliases(self) -> list[str]:
        """The sorted aliases of usable caches that rules name."""
        return sorted(alias for alias in {rule.ref.alias for rule in self.rules} if _cache(alias))


def run() -> list[CheckMessage]:
    """All messages, invalid settings first."""
    found = [message(problem.id, problem.message, problem.hint) for problem in conf.problems()]
    registry = Registry(conf.DATABASE if conf.is_usable("DATABASE") else "default")
    rules: list[Rule] = []
    if conf.is_usable("INVALIDATE"):
        rules, problems = read_rules(registry)
        found += [message(problem.id, problem.message, problem.hint) for problem in problems]
    site = _Site(registry, rules)
    for check in _CHECKS:
        found += check(site)
    return found


_SITE: Final = "django_pgnudge.middleware.NudgedSiteMiddleware"

_READ_REQUESTS: Final = (
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.contrib.flatpages.middleware.FlatpageFallbackMiddleware",
    "django.contrib.redirects.middleware.RedirectFallbackMiddleware",
)


def check_engine(site: _Site) -> Iterator[CheckMessage]:
    if conf.is_usable("DATABASE") and (vendor := connections[conf.DATABASE].vendor) != "postgresql":
        yield message(
            "W009",
            f'PGNUDGE["DATABASE"] = {conf.DATABASE!r} is {vendor}, not PostgreSQL: runnudge cannot'
            " follow it, and nudged values are computed each time.",
            "Name the alias of a PostgreSQL database, if this is not a developer's machine.",
        )


def check_hosts(site: _Site) -> Iterator[CheckMessage]:
    usable = conf.is_usable("DATABASE") and conf.is_usable("CONNECTION")
    if not usable or connections[conf.DATABASE].vendor != "postgresql":
        return
    try:
        may_lag = may_lead_to_a_standby(conf.DATABASE)
    except PgNudgeError:  # runnudge reports it
        return
    if may_lag:
        yield message(
            "W010",
            f"DATABASES[{conf.DATABASE!r}] names several hosts and takes the first that answers,"
            " even a standby. Before PostgreSQL 16 a standby cannot be followed. Later versions"
            " can be followed, but lag, so nudged values are computed.",
            'Add "target_session_attrs": "read-write" to its OPTIONS.',
        )


def check_labels(site: _Site) -> Iterator[CheckMessage]:
    for key in ("TABLES", "EXCLUDE"):
        if not conf.is_usable(key):
            continue
        for entry in getattr(conf, key) or ():
            try:
                site.registry.payload_of(entry)
            except UnknownLabelError as error:
                yield message("E006", f'PGNUDGE["{key}"]: {error}', "Correct the label.")
    if not (conf.is_usable("NUDGED") and conf.is_usable("DATABASE")):
        return
    for what, mistake in declared_mistakes(site.registry):
        yield message("E006", f"{what}: {mistake}", "Correct the name in its dependencies.")


def check_cache_exists(site: _Site) -> Iterator[CheckMessage]:
    for alias in sorted({rule.ref.alias for rule in site.rules}):
        try:
            caches[alias]
        except Exception as error:  # a backend's constructor may raise anything
            yield message(
                "E010",
                f"CACHES[{alias!r}] cannot be used: {type(error).__name__}: {error}",
                "Correct its BACKEND and OPTIONS, and install the packages that it imports.",
            )


def check_patterns(site: _Site) -> Iterator[CheckMessage]:
    for rule in site.rules:
        if _supports("supports_patterns", rule.ref.alias):
            continue
        texts = [
            repr(spec.text) if isinstance(spec, Template) else spec.written
            for spec in rule.specs
            if isinstance(spec, Pattern) or (isinstance(spec, Template) and spec.is_glob)
        ]
        clears = conf.is_usable("RESYNC") and conf.RESYNC == "clear"
        for text in dict.fromkeys(texts):
            if clears and text == repr("*"):
                # All of the cache: then a change calls its clear(), as a Resync does.
                continue
            yield message(
                "E011",
                f"{rule.where}: {text} is a pattern, and the cache {rule.ref.alias!r} cannot"
                " delete by pattern.",
                "Use a cache that can (Redis), or fixed keys; write a key that contains a star as"
                ' {"key": "…"}. Or give these keys a cache of their own, name all of it by "*",'
                ' and set PGNUDGE["RESYNC"] to "clear": then each change calls its clear().',
            )


def check_templates(site: _Site) -> Iterator[CheckMessage]:
    for rule in site.rules:
        templates = [s.text for s in rule.specs if isinstance(s, Template) and not s.is_glob]
        if templates and not _supports("supports_patterns", rule.ref.alias):
            yield message(
                "W003",
                f"{rule.where}: a bulk change turns {templates[0]!r} into a pattern, and the cache"
                f" {rule.ref.alias!r} cannot delete by pattern.",
                "Use a cache that can (Redis), or fixed keys.",
            )


def check_paths(site: _Site) -> Iterator[CheckMessage]:
    for rule in site.rules:
        for spec in rule.specs:
            if isinstance(spec, Fixed) and spec.doubt:
                yield message(
                    "W007",
                    f"{rule.where}: {spec.key!r} is used as a key, but looks like the path"
                    f" of a function: {spec.doubt}.",
                    f'For the key write {{"key": {spec.key!r}}}, or correct the path.',
                )


def check_one_version(site: _Site) -> Iterator[CheckMessage]:
    if conf.is_usable("RESYNC") and conf.RESYNC == "versions":
        for alias in site.aliases():
            if not _supports("can_enumerate", alias):
                yield message(
                    "W005",
                    f'PGNUDGE["RESYNC"] = "versions" cannot clear one version of {alias!r}:'
                    " its backend cannot list its keys, or its KEY_FUNCTION rewrites them.",
                    'Use a cache that can (Redis), or set PGNUDGE["RESYNC"] to "keys" or "clear".',
                )


def check_sessions(site: _Site) -> Iterator[CheckMessage]:
    """``versions`` and ``keys`` keep sessions; ``clear`` cannot."""
    from django_pgnudge.caches.layout import find_sessions  # noqa: PLC0415 - as in _supports

    if not (conf.is_usable("RESYNC") and conf.RESYNC == "clear"):
        return
    if (sessions := find_sessions()) is None:
        return
    for used in site.aliases():
        if _same_place(used, sessions.alias):
            yield message(
                "W001",
                f'PGNUDGE["RESYNC"] = "clear" empties the cache {used!r}, and the sessions of'
                f" {sessions.alias!r} are in the same place: each resync logs everybody out.",
                'Set PGNUDGE["RESYNC"] to "versions", which keeps sessions, or store them in'
                " another place: another Redis database or another SESSION_ENGINE. An alias of"
                " their own is not enough.",
            )
            return


def check_shared(site: _Site) -> Iterator[CheckMessage]:
    usable = set(site.aliases())
    if _cache("default") is not None:
        yield from check_sharing(
            [rule.ref for rule in site.rules if rule.ref.alias in usable], _same_place
        )


def check_visible(site: _Site) -> Iterator[CheckMessage]:
    for alias in site.aliases():
        if isinstance(_cache(alias), LocMemCache | DummyCache):
            yield message(
                "W002",
                f"The cache {alias!r} is {type(_cache(alias)).__name__}: runnudge is a separate"
                " process and cannot delete what other processes keep in their memory.",
                "Use a cache that processes share, such as Redis.",
            )


def check_nudged_caches(site: _Site) -> Iterator[CheckMessage]:
    # Without the key "NUDGED" the site may not use nudged values, so the default cache is not
    # checked.
    if "NUDGED" not in getattr(settings, "PGNUDGE", {}) or not conf.is_usable("NUDGED"):
        return
    for alias in conf.NUDGED["CACHES"]:
        if (refusal := _refusal(alias)) is not None:
            yield message(
                "W006",
                f'PGNUDGE["NUDGED"]["CACHES"] names {alias!r}, which cannot hold nudged values:'
                f" {refusal}.",
                "Name a cache of one server; until then nudged values are computed each time.",
            )


def check_nudged_in_memory(site: _Site) -> Iterator[CheckMessage]:
    if not (conf.is_usable("NUDGED") and (uses_nudged() or _SITE in settings.MIDDLEWARE)):
        return
    for alias in conf.NUDGED["CACHES"]:
        if isinstance(_cache(alias), LocMemCache):
            yield message(
                "W013",
                f"The cache {alias!r} is in the memory of each process, where runnudge can keep no"
                " lease: nudged values are computed each time.",
                "Use a cache that processes share, such as Redis, or name one in"
                ' PGNUDGE["NUDGED"]["CACHES"].',
            )


def check_middleware(site: _Site) -> Iterator[CheckMessage]:
    middleware = list(settings.MIDDLEWARE)
    if _SITE not in middleware:
        return
    above = [each for each in middleware[: middleware.index(_SITE)] if each in _READ_REQUESTS]
    if above:
        yield message(
            "W014",
            f"{', '.join(above)} stands above NudgedSiteMiddleware, which does not see what that"
            " reads, and serves pages without it.",
            f"Write {_SITE!r} first in MIDDLEWARE.",
        )


def check_selected(site: _Site) -> Iterator[CheckMessage]:
    if not (conf.is_usable("TABLES") and conf.is_usable("EXCLUDE")):
        return
    for rule in site.rules:
        try:
            payload = site.registry.payload_of(rule.target)
            if any(map(site.registry.selected, site.payloads(rule, payload))):
                continue
        except UnknownLabelError:  # in TABLES or EXCLUDE; check_labels reports it
            return
        yield message(
            "W004",
            f"{rule.where} never fires: TABLES or EXCLUDE of PGNUDGE keep {payload} out.",
            "Delete the rule, or select the table.",
        )


def check_every_table(site: _Site) -> Iterator[CheckMessage]:
    """A session that is stored in a table is a change at many requests."""
    rule = next((rule for rule in site.rules if rule.target == EVERY_TABLE), None)
    stored = settings.SESSION_ENGINE in _SESSION_TABLES
    if rule is None or not stored or not apps.is_installed("django.contrib.sessions"):
        return
    if not (conf.is_usable("TABLES") and conf.is_usable("EXCLUDE")):
        return
    try:
        if not site.registry.selected(site.registry.payload_of("sessions.Session")):
            return
    except UnknownLabelError:  # in TABLES or EXCLUDE; check_labels reports it
        return
    yield message(
        "W011",
        f"{rule.where} fires for django_session, too: each request that saves its session deletes"
        " all keys of the rule.",
        'Add "sessions.Session" to PGNUDGE["EXCLUDE"], or store sessions elsewhere.',
    )


_CHECKS: tuple[Callable[[_Site], Iterator[CheckMessage]], ...] = (
    check_engine,
    check_hosts,
    check_labels,
    check_cache_exists,
    check_patterns,
    check_templates,
    check_paths,
    check_one_version,
    check_sessions,
    check_shared,
    check_visible,
    check_nudged_caches,
    check_nudged_in_memory,
    check_middleware,
    check_selected,
    check_every_table,
)


def _cache(alias: str) -> Any:
    try:
        return caches[alias]
    except Exception:  # check_cache_exists reports it
        return None


def _same_place(first: str, second: str) -> bool:
    """Whether clearing one cache empties the other; decided by the settings if it is down."""
    from django_pgnudge import caches as backends  # noqa: PLC0415 - as in _supports

    one, two = (settings.CACHES.get(alias, {}) for alias in (first, second))
    if first == second or all(one.get(key) == two.get(key) for key in ("BACKEND", "LOCATION")):
        return True
    try:
        return backends.same_place(first, second)
    except PgNudgeError:
        return bool(one.get("LOCATION") == two.get("LOCATION"))


def _refusal(alias: str) -> str | None:
    """Why a cache cannot hold nudged values; None if it can, or if it is not usable at all."""
    from django_pgnudge import caches as backends  # noqa: PLC0415 - as in _supports

    try:
        return backends.values(alias).refusal()
    except Exception:  # check_cache_exists reports it
        return None


def _supports(question: str, alias: str) -> bool:
    """Whether the cache supports a feature; assumed for a cache that is down."""
    from django_pgnudge import caches as backends  # noqa: PLC0415 - only these checks need backends

    try:
        return bool(getattr(backends, question)(alias))
    except PgNudgeError:
        return True
