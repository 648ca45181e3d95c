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
    "UndeclaredError",
    "UnknownLabelError",
    "UnknownTablesError",
    "UnsupportedError",
    "UnsureError",
]


class PgNudgeError(Exception):
    """The root of the package's errors."""


class ConfigError(PgNudgeError, ValueError):
    """A constructor argument or a setting has an invalid value."""


class ConnectionLostError(PgNudgeError):
    """The connection could not be opened, was closed, or went silent."""


class ProtocolError(PgNudgeError):
    """The server sent something that the PostgreSQL protocol does not allow there."""


class DecodeError(ProtocolError):
    """An output plugin's message does not have the plugin's format."""


class TLSError(PgNudgeError):
    """The connection could not be encrypted or verified as the settings require."""


class AuthenticationError(PgNudgeError):
    """The client cannot continue authentication, or refuses to because it is unsafe."""


class CacheError(PgNudgeError):
    """A cache operation failed; also raised where Django's cache layer would hide the failure."""


class ServerError(PgNudgeError):
    """The server sent an ErrorResponse.

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
    """The cache backend does not support the operation; a retry cannot help."""


class OtherServerError(ConnectionLostError):
    """A connection reached another server than the stream's, or the server was promoted."""


class NotCurrentError(PgNudgeError):
    """The stream cannot be proven current at the moment; the message says why."""


class NotReadyError(PgNudgeError):
    """The daemon could not work; the message has one reason a line."""


class UnknownLabelError(ConfigError, LookupError):
    """A label has the form of a model label and names no model."""


class RuleError(ConfigError):
    """A rule is invalid; ``id`` is the number of its system check."""

    def __init__(self, id: str, message: str, hint: str) -> None:  # noqa: A002
        super().__init__(f"{message} {hint}")
        self.id = id
        self.message = message
        self.hint = hint


class SettleError(PgNudgeError):
    """``settled`` was called inside a transaction, where it cannot work."""


class UnsureError(PgNudgeError):
    """A value has no unique text for a cache key: another value may have the same text."""


class UndeclaredError(PgNudgeError):
    """A value read a table that it does not depend on, and ``OBSERVE`` is "raise"."""


class UnknownTablesError(PgNudgeError):
    """The tables that a queryset reads are unknown; the message says why."""
