"""The ``PGNUDGE`` setting, read on every access.

Only the settings that each read of a nudged value needs are remembered, until Django signals that
the setting changed. So ``override_settings`` works. The user's dictionary is never modified.
Reading an invalid value raises ``ImproperlyConfigured`` with the key and the value.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from django_pgnudge.conf.values import (
    DEFAULTS,
    PROBLEMS,
    Problem,
    did_you_mean,
    import_callable,
    wrong_value,
)


class NudgedHome(NamedTuple):
    """The settings that each read of a nudged value needs."""

    database: str
    caches: tuple[str, ...]
    lease: float
    skew: float
    scope: Callable[[str], Any] | None


class Conf:
    """Typed access to ``settings.PGNUDGE``; each property reads and validates one key."""

    def __init__(self) -> None:
        self._home: NudgedHome | None = None
        setting_changed.connect(self._forget)

    @property
    def DATABASE(self) -> str:  # noqa: N802 - named as the setting is
        """The alias whose write-ahead log is read."""
        return str(self._read("DATABASE"))

    @property
    def PLUGIN(self) -> str:  # noqa: N802
        """``auto`` or the output plugin to use."""
        return str(self._read("PLUGIN"))

    @property
    def PUBLICATION(self) -> str | None:  # noqa: N802
        """The publication pgoutput streams."""
        value = self._read("PUBLICATION")
        return None if value is None else str(value)

    @property
    def CONNECTION(self) -> dict[str, str]:  # noqa: N802
        """libpq parameters that override ``DATABASES`` (a copy)."""
        return {
            name: os.fspath(value) if isinstance(value, os.PathLike) else str(value)
            for name, value in self._read("CONNECTION").items()
        }

    @property
    def TABLES(self) -> tuple[str, ...] | None:  # noqa: N802
        """The labels to follow, or None for every table."""
        value = self._read("TABLES")
        return None if value is None else tuple(value)

    @property
    def EXCLUDE(self) -> tuple[str, ...]:  # noqa: N802
        """The labels not to follow."""
        return tuple(self._read("EXCLUDE"))

    @property
    def FEED(self) -> dict[str, Any]:  # noqa: N802
        """Keywords for ``WalFeed`` (a copy)."""
        return dict(self._read("FEED"))

    @property
    def INVALIDATE(self) -> Mapping[str, Any]:  # noqa: N802
        """Labels and what they invalidate, as written; `rules` parses it."""
        return MappingProxyType(self._read("INVALIDATE"))

    @property
    def RESYNC(self) -> str:  # noqa: N802
        """``versions``, ``keys``, ``clear``, or the dotted path of a callable."""
        return str(self._read("RESYNC"))

    @property
    def NUDGED(self) -> dict[str, Any]:  # noqa: N802
        """``CACHES`` (aliases), ``LEASE``, ``SKEW`` (seconds) and ``SCOPE``, with defaults."""
        return {**DEFAULTS["NUDGED"], **self._read("NUDGED")}

    def nudged_home(self) -> NudgedHome:
        """``DATABASE`` and the contents of ``NUDGED``, with ``SCOPE`` imported.

        Read and validated once, and again after Django signals that the setting changed.
        """
        home = self._home
        if home is None:
            nudged = self.NUDGED
            scope = nudged["SCOPE"]
            home = self._home = NudgedHome(
                self.DATABASE,
                tuple(nudged["CACHES"]),
                float(nudged["LEASE"]),
                float(nudged["SKEW"]),
                scope if scope is None or callable(scope) else import_callable(scope),
            )
        return home

    def first_cache(self) -> str:
        """The cache of values that name none. Raises ImproperlyConfigured if there is none."""
        home = self.nudged_home()
        if not home.caches:
            raise ImproperlyConfigured(
                'PGNUDGE["NUDGED"]["CACHES"] is empty, so there is no cache for nudged values'
                ' and no lease. Name one, such as ["default"], or leave the key out.'
            )
        return home.caches[0]

    def problems(self) -> list[Problem]:
        """Everything that is wrong with the setting, except the rules in ``INVALIDATE``."""
        try:
            given = self._given()
        except ImproperlyConfigured as error:
            return [Problem("E001", str(error), 'Write PGNUDGE = {"DATABASE": "default", …}.')]
        problems = [
            Problem(
                "E002",
                f"PGNUDGE[{key!r}] is not a setting of django-pgnudge.",
                f"Known are {', '.join(DEFAULTS)}.{did_you_mean(key, DEFAULTS)}",
            )
            for key in given
            if key not in DEFAULTS
        ]
        for key, find in PROBLEMS.items():
            if key in given:
                problems += find(given[key])
        if given.get("PLUGIN") == "pgoutput" and given.get("PUBLICATION") is None:
            problems += wrong_value(
                "PUBLICATION",
                None,
                'PGNUDGE["PLUGIN"] = "pgoutput" needs one',
                "Name a publication; CreatePublication makes one in a migration.",
            )
        return problems

    def is_usable(self, key: str) -> bool:
        """Whether reading ``key`` would succeed."""
        try:
            self._read(key)
        except ImproperlyConfigured:
            return False
        return True

    def _forget(self, *, setting: str, **kwargs: Any) -> None:
        if setting == "PGNUDGE":
            self._home = None

    def _given(self) -> Mapping[str, Any]:
        given = getattr(settings, "PGNUDGE", None)
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise ImproperlyConfigured(f"PGNUDGE = {given!r} is not a dictionary.")
        return given

    def _read(self, key: str) -> Any:
        given = self._given()
        if key not in given:
            return DEFAULTS[key]
        value = given[key]
        problems = PROBLEMS[key](value)
        if problems:
            raise ImproperlyConfigured(f"{problems[0].message} {problems[0].hint}")
        return value


conf: Final = Conf()
