"""The ``PGNUDGE`` setting. Each key is read and validated once, when it is first asked for.

Everything is read again when Django says that a setting has changed (`setting_changed`), so
``override_settings`` works. The user's dictionary is never written to. Reading a wrong value raises
``ImproperlyConfigured`` that names the key and the value.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final

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

_READ_FROM: Final = ("PGNUDGE", "DATABASES", "CACHES")
"""The settings that a value of ``PGNUDGE`` is read from or validated by."""


@dataclass(frozen=True, eq=False, repr=False)
class Conf:
    """Typed access to ``settings.PGNUDGE``, one attribute a key.

    A key with a wrong value leaves the others readable.
    """

    generation: int = 0
    """Another number after each change of the settings: whoever keeps what was made from them
    compares it."""

    def __post_init__(self) -> None:
        setting_changed.connect(self._reset)

    @cached_property
    def DATABASE(self) -> str:  # noqa: N802 - named as the setting is
        """The alias whose write-ahead log is read."""
        return str(self._read("DATABASE"))

    @cached_property
    def PLUGIN(self) -> str:  # noqa: N802
        """``auto`` or the output plugin to use."""
        return str(self._read("PLUGIN"))

    @cached_property
    def PUBLICATION(self) -> str | None:  # noqa: N802
        """The publication pgoutput streams."""
        value = self._read("PUBLICATION")
        return None if value is None else str(value)

    @cached_property
    def CONNECTION(self) -> Mapping[str, str]:  # noqa: N802
        """libpq parameters that override ``DATABASES``."""
        return MappingProxyType(
            {
                name: os.fspath(value) if isinstance(value, os.PathLike) else str(value)
                for name, value in self._read("CONNECTION").items()
            }
        )

    @cached_property
    def TABLES(self) -> tuple[str, ...] | None:  # noqa: N802
        """The labels to follow, or None for every table."""
        value = self._read("TABLES")
        return None if value is None else tuple(value)

    @cached_property
    def EXCLUDE(self) -> tuple[str, ...]:  # noqa: N802
        """The labels not to follow."""
        return tuple(self._read("EXCLUDE"))

    @cached_property
    def FEED(self) -> Mapping[str, Any]:  # noqa: N802
        """Keywords for ``WalFeed``."""
        return MappingProxyType(dict(self._read("FEED")))

    @cached_property
    def INVALIDATE(self) -> Mapping[str, Any]:  # noqa: N802
        """Labels and what they invalidate, as written; ``rules`` parses it."""
        return MappingProxyType(dict(self._read("INVALIDATE")))

    @cached_property
    def RESYNC(self) -> str:  # noqa: N802
        """``versions``, ``keys``, ``clear``, or the dotted path of a callable."""
        return str(self._read("RESYNC"))

    @cached_property
    def NUDGED(self) -> Mapping[str, Any]:  # noqa: N802
        """``CACHES`` (aliases), ``LEASE``, ``SKEW`` (seconds), ``SCOPE`` (imported, or None), and
        ``OBSERVE`` (``"warn"``, ``"raise"``, ``"off"``, a share, or None),
        ``SITE`` (``"all"`` or ``"marked"``), ``HEADER`` (a bool)."""
        given = {**DEFAULTS["NUDGED"], **self._read("NUDGED")}
        scope = given["SCOPE"]
        return MappingProxyType(
            {
                "CACHES": tuple(given["CACHES"]),
                "LEASE": float(given["LEASE"]),
                "SKEW": float(given["SKEW"]),
                "OBSERVE": given["OBSERVE"],
                "SITE": given["SITE"],
                "HEADER": given["HEADER"],
                "SCOPE": scope if scope is None or callable(scope) else import_callable(scope),
            }
        )

    def first_cache(self) -> str:
        """The cache of values that name none. Raises ImproperlyConfigured if there is none."""
        caches: tuple[str, ...] = self.NUDGED["CACHES"]
        if not caches:
            raise ImproperlyConfigured(
                'PGNUDGE["NUDGED"]["CACHES"] is empty, so there is no cache for nudged values'
                ' and no lease. Name one, such as ["default"], or leave the key out.'
            )
        return caches[0]

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
                f"The keys are {', '.join(DEFAULTS)}.{did_you_mean(key, DEFAULTS)}",
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
            getattr(self, key)
        except ImproperlyConfigured:
            return False
        return True

    def _reset(self, *, setting: str, **kwargs: Any) -> None:
        if setting in _READ_FROM:
            # A thread that is reading a key stores what it finds in the dictionary of before.
            object.__setattr__(self, "__dict__", {"generation": self.generation + 1})

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
