"""What is read of a request by everything below the first middleware.

The record begins before Django's own middleware runs, which looks at some parts of each request
whether or not the response depends on them. Such a look does not count, or not yet:

=============================== ==========================================================
``SessionMiddleware``           its cookie counts once the session is asked for anything
``CsrfViewMiddleware``          its cookie counts once the token is asked for
``CommonMiddleware``            ``User-Agent`` counts only with ``DISALLOWED_USER_AGENTS``
``ConditionalGetMiddleware``    what a browser has does not change what the page is
``LocaleMiddleware``            the language that it finds counts, not where it found it
=============================== ==========================================================

Who looks is told by the module whose code looks, so the same look by any other code counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.conf import settings

from django_pgnudge.pages.inputs import is_session, loads_its_row, raw
from django_pgnudge.pages.recording import RecordedInputs
from django_pgnudge.pages.recording_classes import SESSION_MIDDLEWARE, read_key, reader

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

    from django_pgnudge.pages.inputs import RequestInputs

LANGUAGE: Final = "language of"

_CSRF: Final = "django.middleware.csrf"
_COMMON: Final = "django.middleware.common"
_TRANSLATION: Final = "django.utils.translation.trans_real"
_WHAT_A_BROWSER_HAS: Final = ("meta HTTP_IF_NONE_MATCH", "meta HTTP_IF_MODIFIED_SINCE")
_CONDITIONS: Final = ("django.utils.cache", "django_pgnudge.pages.conditional")

_SESSION: Final = "session"
_TOKEN: Final = "token"  # noqa: S105 - a name


class SiteInputs(RecordedInputs):
    """The inputs of a response that is made by the whole site."""

    def __init__(self, asked: RequestInputs) -> None:
        super().__init__(asked)
        self._looks = looks()
        self._held_back: dict[str, dict[str, str | None]] = {}
        self._had_session = raw(asked.request).get("session") is not None

    @property
    def expects_session(self) -> bool:
        """The session is made below, of a cookie or of whatever else is read."""
        return not self._had_session

    def holds_back(self, name: str) -> bool:
        """Whether this is a look that does not count, or not yet."""
        by_whom = self._looks.get(name)
        if by_whom is None:
            return False
        for module, about in by_whom.items():
            if reader() != module:
                continue
            if about == LANGUAGE:
                self._take_language()
            elif about:
                self._held_back.setdefault(about, {}).setdefault(name, self._asked.value(name))
            return True
        return False

    def lacks(self, name: str) -> bool:
        """Nothing is recorded of a session that was made of what was recorded."""
        is_of_session = name.startswith(("session ", "store "))
        return not (is_of_session and self.expects_session) and super().lacks(name)

    def follow(self, name: str) -> None:
        """Count the cookie that this was made of."""
        if self.expects_session and name.startswith(("session ", "store ")):
            self._count(_SESSION)
            session: Any = raw(self._asked.request).get("session")
            if not is_session(session):
                self.why_unsure = "its session is not of Django's base class"
            elif read_key(session) is not None and not loads_its_row(session):
                self.why_unsure = "its session is not kept in a table of its own"
        elif name == "meta CSRF_COOKIE":
            self._count(_TOKEN)

    def must_have_data(self, session: SessionBase) -> bool:
        """See `follow`: the read of its row is seen."""
        return self._had_session and super().must_have_data(session)

    def _count(self, about: str) -> None:
        for name, value in self._held_back.pop(about, {}).items():
            self.values.setdefault(name, value)

    def _take_language(self) -> None:
        if LANGUAGE not in self.values:
            self.values[LANGUAGE] = None  # finding it looks again
            self.values[LANGUAGE] = self._asked.value(LANGUAGE)


def looks() -> dict[str, dict[str, str]]:
    """By input: the modules whose look does not count, and what lets it count, if anything.

    The settings decide.
    """
    found: dict[str, dict[str, str]] = {
        each: dict.fromkeys(_CONDITIONS, "") for each in _WHAT_A_BROWSER_HAS
    }
    if not settings.DISALLOWED_USER_AGENTS:
        found["meta HTTP_USER_AGENT"] = {_COMMON: ""}
    if not settings.SESSION_SAVE_EVERY_REQUEST:
        name = f"cookie {settings.SESSION_COOKIE_NAME}"
        found[name] = {SESSION_MIDDLEWARE: _SESSION}
    if not settings.CSRF_USE_SESSIONS:
        found[f"cookie {settings.CSRF_COOKIE_NAME}"] = {_CSRF: _TOKEN}
    for name in (f"cookie {settings.LANGUAGE_COOKIE_NAME}", "meta HTTP_ACCEPT_LANGUAGE"):
        found.setdefault(name, {})[_TRANSLATION] = LANGUAGE
    return found
