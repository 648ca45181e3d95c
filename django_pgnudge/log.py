"""Loggers that never raise and never let a quoted text break a line.

A handler may raise (a full disk, a mail server that is down). Most lines are logged while the
package recovers from a failure, and a failed log line must not lose a nudge.

Many lines quote foreign texts: names of tables, payloads, errors of servers. Such a text could
forge a line or send control codes to the terminal. So every character that is not printable is
escaped here, in every line of the package.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

from django_pgnudge.memo import Memo

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from _typeshed import SupportsWrite


EVERY: Final = 60.0
"""Seconds between two equal warnings that a request, or a lasting failure, can cause."""

_logged_at: Memo[object, float] = Memo(1000)
_logged_lock = threading.Lock()


def get_logger(name: str) -> _Logger:
    """The logger ``name``; an exception from a handler is printed to standard error."""
    logger = logging.getLogger(name)
    logger.addFilter(_escape_record)
    return _Logger(logger)


def may_log(about: object, every: float = EVERY) -> bool:
    """Rate limit for warnings that a request, or a lasting failure, can cause.

    True if ``every`` seconds have passed since the last True for ``about``, which is hashable.
    """
    now = time.monotonic()
    with _logged_lock:
        last = _logged_at.get(about)
        if last is not None and now - last < every:
            return False
        _logged_at[about] = now
        return True


def forget_logged() -> None:
    """Reset the rate limit, for tests."""
    _logged_at.clear()


def plural(count: int, noun: str) -> str:
    """``1 key``, ``2 keys``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def escape(text: str) -> str:
    """Replace each character that is not printable with a backslash escape.

    By `str.isprintable` these are control characters, line and paragraph separators, marks that
    change the direction of writing, and halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def show_lines(stream: SupportsWrite[str], verbosity: int) -> None:
    """Write the package's lines to a stream if the project's LOGGING has no handler for them.

    ``verbosity`` is the option of a management command, 0 to 3.
    """
    logger = logging.getLogger("django_pgnudge")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("{asctime} {levelname} {message}", style="{"))
    logger.addHandler(handler)
    logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))


class _Escaped:
    """Replaces a log argument whose text is not printable."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return escape(str(self._value))

    def __repr__(self) -> str:
        return escape(repr(self._value))


def _escape_record(record: logging.LogRecord) -> bool:
    if isinstance(record.msg, str):
        record.msg = escape(record.msg)
    if isinstance(record.args, tuple):
        record.args = tuple(map(_printable, record.args))
    elif record.args:
        record.args = {name: _printable(value) for name, value in record.args.items()}
    if record.exc_info and record.exc_info[1] is not None:
        text = logging.Formatter().formatException(record.exc_info)
        escaped = _escape_traceback(text, record.exc_info[1])
        if escaped != text:
            # Formatters use this text instead of formatting the exception again.
            record.exc_text = escaped
    return True


def _printable(value: object) -> object:
    if value is None or isinstance(value, (int, float)):
        return value
    try:
        is_printable = str(value).isprintable() and repr(value).isprintable()
    except Exception:
        # The handler fails on it too, and reports the failure.
        return value
    return value if is_printable else _Escaped(value)


def _escape_traceback(text: str, exc: BaseException) -> str:
    """Escape a formatted exception; a line break inside a message is escaped too."""
    waiting, seen = [exc], set()
    while waiting:
        each = waiting.pop()
        seen.add(id(each))
        # An exception whose str() fails shows no message in the traceback either.
        with contextlib.suppress(Exception):
            for said in (str(each), *getattr(each, "__notes__", ())):
                text = text.replace(said, escape(said)) if said.strip() else text
        others = (each.__cause__, each.__context__, *getattr(each, "exceptions", ()))
        waiting += [other for other in others if other is not None and id(other) not in seen]
    return "\n".join(map(escape, text.split("\n")))


class _Logger(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        # Skip this frame: the line must name the caller's file and line number.
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1
        try:
            super().log(level, msg, *args, **kwargs)
        except Exception:
            with contextlib.suppress(Exception):
                traceback.print_exc()

    def process(
        self, msg: Any, kwargs: MutableMapping[str, Any]
    ) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs
