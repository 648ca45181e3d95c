"""Every error the package raises, below one root."""

from __future__ import annotations

__all__ = [
    "AuthenticationError",
    "CacheError",
    "ConfigError",
    "ConnectionLostError",
    "DecodeError",
    "PgNudgeError",
    "ProtocolError",
    "ServerError",
    "TLSError",
]


class PgNudgeError(Exception):
    """The root of the package's errors."""


class ConfigError(PgNudgeError, ValueError):
    """A constructor argument or a setting has a value it cannot have."""


class ConnectionLostError(PgNudgeError):
    """The connection could not be made, ended, or fell silent."""


class ProtocolError(PgNudgeError):
    """The peer sent what the PostgreSQL protocol does not allow at that point."""


class DecodeError(ProtocolError):
    """An output plugin's message does not have the plugin's format."""


class TLSError(PgNudgeError):
    """The connection could not be secured as asked."""


class AuthenticationError(PgNudgeError):
    """The client cannot, or for safety will not, go on with authentication."""


class CacheError(PgNudgeError):
    """A cache did not do what it was asked; raised where the cache layer would stay silent."""


class ServerError(PgNudgeError):
    """An ErrorResponse of the server.

    The fields are those of the protocol chapter "Error and Notice Message Fields".
    """

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str,
        severity: str = "ERROR",
        detail: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate
        self.severity = severity
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        extra = "".join(
            f" {label}: {text}"
            for label, text in (("DETAIL", self.detail), ("HINT", self.hint))
            if text
        )
        return f"{self.severity} {self.sqlstate}: {self.message}{extra}"
