"""``require_auth``: the authentication methods that the client accepts, as in libpq.

Source: PostgreSQL documentation, "Parameter Key Words" of libpq 16 and later. The messages are
those of ``check_expected_areq`` in src/interfaces/libpq/fe-auth.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import AuthenticationError, ConfigError

METHODS: Final = ("password", "md5", "gss", "sspi", "scram-sha-256", "oauth", "none")
"""The methods of libpq; ``none`` means that the server asks for no authentication."""


@dataclass(frozen=True, slots=True)
class AcceptedMethods:
    """A value of ``require_auth`` and the methods it accepts; empty accepts any method."""

    text: str = ""
    accepted: frozenset[str] = frozenset(METHODS)

    @classmethod
    def of(cls, text: str | None) -> AcceptedMethods:
        """Read a comma-separated list of methods; with ``!`` before each it accepts all others.

        Raises ConfigError for values that libpq refuses.
        """
        if not text:
            return cls()
        names = text.split(",")
        excluded = [name.startswith("!") for name in names]
        methods = [name.removeprefix("!") for name in names]
        if any(excluded) and not all(excluded):
            raise ConfigError(f"require_auth={text!r} mixes methods with and without a '!'")
        for method in methods:
            if method not in METHODS:
                raise ConfigError(
                    f"require_auth={text!r}: {method!r} is not one of {', '.join(METHODS)}"
                )
            if methods.count(method) > 1:
                raise ConfigError(f"require_auth={text!r} names {method!r} more than once")
        named = frozenset(methods)
        return cls(text, frozenset(METHODS) - named if any(excluded) else named)

    def check(self, method: str, what: str) -> None:
        """Raise AuthenticationError unless ``method`` is accepted; ``what`` says what happened."""
        if method not in self.accepted:
            raise AuthenticationError(
                f'authentication method requirement "{self.text}" failed: {what}'
            )


ANY_METHOD: Final = AcceptedMethods()
