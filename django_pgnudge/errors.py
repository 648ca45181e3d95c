"""Every error the package raises, below one root."""

from __future__ import annotations

__all__ = [
    "AuthenticationError",
    "CacheError",
    "ConfigError",
    "ConnectionLostError",
    "DecodeError",
    "NotCurrentError",
    "NotReadyError",
    "OtherServerError",
    "PgNudgeError",
    "ProtocolError",
    "RuleError",
    "ServerError",
    "SettleError",
    "TLSError",
    "UnknownLabelError",
    "UnknownTablesError",
    "UnsupportedError",
    "UnsureError",
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


class UnsupportedError(CacheError):
    """The backend cannot do this at all, so that trying again is of no use."""


class OtherServerError(ConnectionLostError):
    """A connection led to another server than the stream's, or the server was promoted."""


class NotCurrentError(PgNudgeError):
    """There is no proof at the moment; the message says why."""


class NotReadyError(PgNudgeError):
    """What would keep the daemon from its work, one thing a line."""


class UnknownLabelError(ConfigError, LookupError):
    """A label that names no model, though it can be nothing else."""


class RuleError(ConfigError):
    """A rule that cannot be understood; ``id`` is the number of its system check."""

    def __init__(self, id: str, message: str, hint: str) -> None:  # noqa: A002
        super().__init__(f"{message} {hint}")
        self.id = id
        self.message = message
        self.hint = hint


class SettleError(PgNudgeError):
    """``settled`` was called where it cannot be answered: inside a transaction."""


class UnsureError(PgNudgeError):
    """An argument whose text as a cache key cannot be told from that of another value."""


class UnknownTablesError(PgNudgeError):
    """It is unknown which tables a queryset reads; the message says why."""
